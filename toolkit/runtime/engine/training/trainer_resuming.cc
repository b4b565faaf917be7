// Where a run goes on: a new one, one that was saved, and one that takes another adapter.
#include <cstdlib>

#include "engine/error.h"
#include "engine/files/files.h"
#include "engine/training/trainer.h"

namespace toolkit {
namespace {

constexpr char kTaken[] = "taken";

}  // namespace

void Trainer::restore() {
  int64_t position = 0;
  if (options_.resume && file_exists(path("state.bin"))) {
    position = resume();
  } else {
    if (!options_.take_adapter.empty()) {
      fail("%s holds no saved state to take an adapter into. Start it with --adapter instead",
           options_.out.c_str());
    }
    started_from_ = hexadecimal(
        load_start(*bundle_, options_.adapter, network_->adapter(), values_->floats(), put_away()));
    updater_->initialize();
    if (options_.resume) start_events_.push_back({"restarted", "nothing was saved: starts again"});
  }
  report_.steps = options_.steps;
  sampler_ = std::make_unique<Sampler>(data_->samples(), uint64_t(options_.seed),
                                       order_from(options_.order), position);
}

/// Continues where the run was saved and returns the sampler's position.
int64_t Trainer::resume() {
  const RunState saved = load_state(path("state.bin"), identity_, state_arrays(), put_away());
  if (const std::string* adapter = find_field(saved.settings, "adapter.sha256")) {
    started_from_ = *adapter;
  }
  if (const std::string* taken = find_field(saved.settings, kTaken)) taken_ = *taken;
  start_events_.push_back({"resumed", format("step %lld", (long long)saved.step)});
  if (!options_.take_adapter.empty()) take_adapter(saved);
  for (int64_t layer = 0; layer < bundle_->layers; ++layer) {
    updater_->check_values(layer, "in state.bin");
    values_->rest(layer, false);
  }
  report_.step = resumed_from_ = saved_step_ = saved.step;
  const std::string changes = changed_settings(saved.settings, settings_of(options_));
  if (!changes.empty()) start_events_.push_back({"settings_changed", changes});
  recall_held_out(saved);
  return saved.position;
}

/// Puts --take-adapter in place of the saved adapter, or sees that the saved state has come from
/// it: the same command again changes nothing twice, also where it does not say after which step.
void Trainer::take_adapter(const RunState& saved) {
  const std::string file = path("state.bin");
  const int64_t at = options_.given("take-at") ? options_.take_at : saved.step;
  const FlatTensorFile adapter(options_.take_adapter);
  const std::string sha256 = hexadecimal(adapter.sha256());
  const std::string taken = format("%lld %s", (long long)at, sha256.c_str());
  if (saved.step > at && taken_ == taken) return;
  const bool known = taken_ == format("%lld %s", (long long)taken_step(), sha256.c_str());
  if (!options_.given("take-at") && known && saved.step > taken_step()) {
    start_events_.push_back(
        {"adapter_kept", format("taken after step %lld already; --take-at %lld takes it again",
                                (long long)taken_step(), (long long)saved.step)});
    return;
  }
  if (saved.step != at) {
    fail(
        "%s was saved after step %lld, and %s was not taken into it after step %lld. Resume with "
        "--take-at %lld, or without --take-adapter",
        file.c_str(), (long long)saved.step, options_.take_adapter.c_str(), (long long)at,
        (long long)saved.step);
  }
  if (saved.step >= options_.steps) {
    fail("all %lld steps are done, so there is nothing to take %s for. Resume with more --steps",
         (long long)saved.step, options_.take_adapter.c_str());
  }
  load_adapter(adapter, network_->adapter(), values_->floats(), put_away());
  started_from_ = sha256;
  taken_ = taken;
  start_events_.push_back({"adapter_taken", format("SHA-256 %s", sha256.c_str())});
}

/// The step after which the adapter was taken, -1 where none was.
int64_t Trainer::taken_step() const { return taken_.empty() ? -1 : atoll(taken_.c_str()); }

RunState Trainer::run_state() const {
  RunState state;
  state.step = report_.step;
  state.position = sampler_ != nullptr ? sampler_->position() : 0;
  state.identity = identity_;
  state.settings = settings_of(options_);
  state.settings.push_back({"adapter.sha256", started_from_});
  if (!taken_.empty()) state.settings.push_back({kTaken, taken_});
  remember_held_out(state);
  return state;
}

}  // namespace toolkit
