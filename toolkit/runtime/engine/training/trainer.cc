#include "engine/training/trainer.h"

#include <time.h>
#include <unistd.h>

#include <numeric>

#include "engine/error.h"
#include "engine/files/files.h"
#include "engine/memory/memory_stats.h"

namespace toolkit {
namespace {

constexpr size_t kSpare = 32 << 10;

double unix_time() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

}  // namespace

Trainer::Trainer(Runtime& runtime, const Options& options)
    : runtime_(runtime),
      options_(options),
      best_(path("best")),
      checkpoints_(path("checkpoints")),
      opened_at_(unix_time()),
      spare_(new char[kSpare]) {
  open_run();
  Phase load(*trace_, "load");
  try {
    open_model();
    load.end();
    start();
  } catch (const UsageError& error) {
    finish("failed", error.what());
    throw;
  } catch (const std::exception& error) {
    spare_.reset();
    const std::string message = message_of(error) + kept();
    finish("failed", message);
    throw Error(message);
  }
}

Trainer::~Trainer() = default;

void Trainer::open_run() {
  if (options_.take_adapter.empty() && options_.given("take-at")) {
    fail_usage("--take-at says where --take-adapter is taken. Give both, or neither");
  }
  make_directories(options_.out);
  if (!options_.resume && file_exists(path("state.bin"))) {
    fail("%s already holds a run. Continue it with --resume or choose another directory",
         options_.out.c_str());
  }
  const TraceLevel level = trace_level_from(options_.trace);
  trace_ = std::make_unique<Trace>(runtime_.profile(), options_.out, level, options_.resume);
  counted_bytes_ = trace_->written_bytes();
  // One from before this run was meant for an earlier one.
  remove_file(path("stop"));
}

void Trainer::open_model() {
  schedule_ = schedule_from(options_.schedule);
  lr_floor_ = schedule_floor(options_);
  check_held_out();
  bundle_ = std::make_unique<Bundle>(options_.bundle);
  data_ = std::make_unique<Dataset>(options_.data, *bundle_);
  const MethodRow& method = method_row(options_.method);
  const int64_t tokens = row_tokens(*bundle_, data_->seq_len(), options_.batch_size);
  const int64_t together = method.together == nullptr ? 1 : method.together(options_, tokens);
  network_ = std::make_unique<Network>(*bundle_, tokens, method.backward, options_.freeze == "a",
                                       together);
  if (!options_.eval_data.empty()) {
    eval_data_ = std::make_unique<Dataset>(options_.eval_data, *bundle_);
    if (eval_data_->seq_len() != network_->seq_len()) {
      eval_network_ = std::make_unique<Network>(*bundle_, eval_data_->seq_len(), false);
    }
  }
  trace_->measure_runtime();

  const AdapterLayout& layout = network_->adapter();
  trained_ = std::make_unique<TrainedLayers>(options_.layers, layout);
  make_room_for_state();
  updater_ = std::make_unique<Updater>(options_, layout, *trained_, *values_, spill_.get());
  sequences_per_step_ = options_.batch_size * options_.grad_accum;
  prefetcher_ =
      std::make_unique<Prefetcher>(bundle_->base().file(), page_cache_from(options_.page_cache));
  passes_ = std::make_unique<Passes>(*network_, *data_, *trace_, *prefetcher_, options_.batch_size);
  passes_->put_away(*values_);
  passes_->interruptible([this] { return stop_requested(); });
  method_ =
      method.make({options_, *network_, *passes_, *trained_, *updater_, *trace_, spill_.get()});
  if (eval_data_ != nullptr) {
    Network& network = eval_network_ != nullptr ? *eval_network_ : *network_;
    eval_passes_ = std::make_unique<Passes>(network, *eval_data_, *trace_, *prefetcher_);
    eval_passes_->put_away(*values_);
  }
  identity_ = identity_of(options_, *bundle_, *data_, *trained_);
  // The adapter is saved twice, for use and with the state, and once more where it is kept.
  const int64_t copies = options_.keep_checkpoints > 0 ? 2 : 1;
  const int64_t save_bytes = copies * int64_t(values_->bytes()) + bytes_of(state_arrays());
  saves_ = std::make_unique<SaveSchedule>(options_.save_every, options_.given("save-every"),
                                          options_.save_minutes, save_bytes,
                                          1e-9 * double(trace_->now()));
  restore();
  if (nothing_left()) {
    trace_->mute();
    return;
  }
  settle_kept();
  method_->begin(report_.step, {started_from_, taken_step()});
  copy_file(options_.bundle + "/adapter_config.json", path("adapter_config.json"));
  write_run_record();
}

void Trainer::make_room_for_state() {
  const AdapterLayout& layout = network_->adapter();
  const CheckpointPlace place = checkpoints_from(options_.state);
  const std::vector<size_t> parts = bytes_of_state(options_, layout, *trained_);
  const size_t bytes = std::accumulate(parts.begin(), parts.end(), size_t(0));
  state_place_ = choose_place(place, int64_t(bytes), memory_available_kib());
  try {
    if (state_place_.spilled) spill_ = std::make_unique<SpillFile>(options_.out, parts);
  } catch (const Error& error) {
    if (place != CheckpointPlace::automatic) throw;
    const auto* full = dynamic_cast<const StorageFull*>(&error);
    const std::string why = full != nullptr ? full->cause() : error.what();
    state_place_ = {false, state_place_.bytes, state_place_.reason + ", but " + why};
  }
  values_ = std::make_unique<LayerMemory>(layout.begins_from(0), Category::adapters,
                                          "toolkit adapters", spill_.get());
}

Visited Trainer::put_away() const {
  if (spill_ == nullptr) return {};
  return [this](const void* data, size_t bytes) { spill_->drop(data, bytes); };
}

bool Trainer::nothing_left() const {
  return (saved_step_ >= options_.steps || out_of_patience()) && trace_->was_completed();
}

void Trainer::start() {
  for (const Field& event : start_events_) trace_->event(event.name.c_str(), event.value);
  if (keeps_best() && held_out_.best_step >= 0) tell_best(0);
  trace_->flush();
  trace_->start_sampler();
}

std::string Trainer::notices() const {
  std::string lines;
  for (const Field& event : start_events_) lines += event.name + ": " + event.value + "\n";
  return lines;
}

std::vector<StateArray> Trainer::state_arrays() const {
  std::vector<StateArray> arrays = updater_->arrays();
  for (StateArray& array : method_->arrays()) arrays.push_back(std::move(array));
  return arrays;
}

bool Trainer::step() {
  if (over_) return false;
  if (nothing_left()) {
    finish("completed", "");
    return false;
  }
  try {
    const bool first = report_.step == std::max<int64_t>(0, resumed_from_);
    if (first && was_not_evaluated() && !stop_requested()) evaluate();
    const bool stop = stop_requested();
    if (stop || report_.step >= session_end() || out_of_patience()) return end_run(stop);
    if (!train_step()) return end_run(true);
    if (options_.eval_every > 0 && report_.step % options_.eval_every == 0) evaluate();
    save_if_due();
    trace_->flush();
    return true;
  } catch (const std::exception& error) {
    spare_.reset();
    const std::string message = message_of(error) + kept();
    finish("failed", message);
    throw Error(message);
  }
}

/// The step after which this session ends.
int64_t Trainer::session_end() const {
  return options_.until > 0 ? std::min(options_.until, options_.steps) : options_.steps;
}

bool Trainer::end_run(bool stop) {
  if (stop) trace_->event("stop_requested", "");
  stopped_ = report_.step < options_.steps && !out_of_patience();
  if (!stopped_) evaluate();
  const bool saved = saved_step_ == report_.step && saved_held_out_.step == held_out_.step;
  if (!saved) save();
  finish(stopped_ ? "stopped" : "completed", "");
  return false;
}

/// Returns false when a stop was requested before the step had changed anything.
bool Trainer::train_step() {
  const int64_t step = report_.step + 1;
  trace_->begin_step(step);
  const int64_t begin = trace_->now(), spilled = spilled_bytes(), changed = changed_bytes();
  const int64_t position = sampler_->position();
  std::vector<int64_t> samples;
  for (int64_t i = 0; i < sequences_per_step_; ++i) samples.push_back(sampler_->next());
  report_.lr = options_.lr * schedule_factor(schedule_, step - 1, options_.warmup_steps,
                                             options_.steps, lr_floor_);
  StepResult result;
  try {
    result = method_->step(samples, {report_.lr, step});
  } catch (const Interrupted&) {
    sampler_->return_to(position);
    return false;
  }
  report_.step = step;
  report_.loss = result.loss.mean();
  report_.tokens = int64_t(samples.size()) * data_->seq_len();
  report_.labelled = result.loss.tokens;
  report_.grad_norm = result.grad_norm;
  report_.seconds = 1e-9 * double(trace_->now() - begin);
  report_.peak_kib = trace_->step_peak();
  write_step(report_, samples, spilled_bytes() - spilled, changed_bytes() - changed);
  return true;
}

int64_t Trainer::spilled_bytes() const {
  const HiddenStates* states = method_->checkpoints();
  return states != nullptr ? states->spilled_bytes() : 0;
}

void Trainer::finish(const char* status, const std::string& error) {
  over_ = true;
  trace_->stop_sampler();
  trace_->note_peak();
  const bool failed = !error.empty();
  try {
    if (!started_) write_run_record();
    Json json;
    json.field("t", trace_->now()).field("status", status).field("steps", report_.step);
    json.field("peak", trace_->run_peak()).field("seconds", 1e-9 * double(trace_->now()));
    if (failed) json.field("error", error);
    if (!failed && !stopped_ && !why_early().empty()) json.field("reason", why_early());
    trace_->record("end", json);
    trace_->flush();
    trace_->close();
  } catch (const std::exception&) {
    if (!failed) throw;  // The first error is the one to tell.
  }
}

}  // namespace toolkit
