// Held-out data in the course of a run: its losses, the adapter of the lowest (--keep best), and
// when they end it (--patience).
#include <algorithm>
#include <cmath>

#include "engine/error.h"
#include "engine/training/trainer.h"

namespace toolkit {
namespace {

constexpr char kContent[] = "held_out.content";

}  // namespace

void Trainer::check_held_out() const {
  if (options_.patience > 0 && (options_.eval_every == 0 || options_.eval_data.empty())) {
    fail_usage("--patience counts evaluations on the way: give --eval-every N and --eval-data");
  }
  if (keeps_best() && options_.eval_data.empty()) {
    fail_usage("--keep best goes by held-out loss: give --eval-data");
  }
}

/// Whether a run that begins here has to be evaluated first: a new one, or one that was stopped
/// while that was under way.
bool Trainer::was_not_evaluated() const {
  if (resumed_from_ < 0 || !goes_by_held_out()) return resumed_from_ < 0;
  const bool due = options_.eval_every > 0 && report_.step % options_.eval_every == 0;
  return held_out_.step < 0 || (due && held_out_.step != report_.step);
}

bool Trainer::out_of_patience() const {
  return options_.patience > 0 && held_out_.since_best >= options_.patience;
}

std::string Trainer::why_early() const {
  if (!out_of_patience() || report_.step >= options_.steps) return "";
  const long long count = held_out_.since_best;
  const char* const plural = count == 1 ? "" : "s";
  return format("the held-out loss was not below %.6g, that of step %lld, in %lld evaluation%s",
                held_out_.best_loss, (long long)held_out_.best_step, count, plural);
}

int64_t Trainer::held_out_samples() const {
  const int64_t all = eval_data_->samples();
  return options_.max_samples > 0 ? std::min(all, options_.max_samples) : all;
}

/// What losses can be compared on.
std::string Trainer::held_out_content() const {
  return hexadecimal(eval_data_->sha256()) + " " + std::to_string(held_out_samples());
}

/// Goes on with what earlier sessions saw, if it was of the same data.
void Trainer::recall_held_out(const RunState& saved) {
  if (!goes_by_held_out()) return;
  saved_held_out_ = saved.held_out;
  const std::string* content = find_field(saved.settings, kContent);
  if (saved.held_out.step >= 0 && (content == nullptr || *content != held_out_content())) {
    start_events_.push_back(
        {"best_unknown", "the held-out data is another: losses before do not count"});
    return;
  }
  held_out_ = saved.held_out;
  evaluated_step_ = held_out_.step;
}

void Trainer::remember_held_out(RunState& state) const {
  if (!goes_by_held_out()) return;
  state.held_out = held_out_;
  state.settings.push_back({kContent, held_out_content()});
}

void Trainer::evaluate() {
  if (eval_passes_ == nullptr || evaluated_step_ == report_.step) return;
  evaluated_step_ = report_.step;
  method_->rest();
  const int64_t samples = held_out_samples();
  bool interrupted = false;
  const LossSum sum = eval_passes_->evaluate(
      samples, values_->floats(), kEvaluationMemory, [&](int64_t done, const LossSum&) {
        return interrupted = stop_requested() && done < samples;
      });
  if (interrupted) return;
  if (sum.tokens == 0 && goes_by_held_out()) {
    fail("the held-out data has no labelled tokens in its first %lld samples. Raise --max-samples",
         (long long)samples);
  }
  if (sum.tokens == 0) return;
  const bool best = goes_by_held_out() && held_out_.add(report_.step, sum.mean());
  Json json;
  json.field("step", report_.step).field("loss", sum.mean());
  json.field("perplexity", std::exp(sum.mean())).field("tokens", sum.tokens);
  if (goes_by_held_out()) json.field("best", best);
  trace_->record("evaluation", json);
  if (best && keeps_best() && spill_ != nullptr) spill_->check();
  if (best && keeps_best()) when_there_is_room([this] { write_best(); });
  trace_->flush();
}

/// The best that the saved state names stays until a state names this one: a run that is killed in
/// between goes on from there.
void Trainer::write_best() {
  Phase phase(*trace_, "save");
  const int64_t before = trace_->written_bytes();
  best_.write(report_.step, adapter_tensors(), put_away());
  best_.keep(
      [&](int64_t step) { return step == report_.step || step == saved_held_out_.best_step; });
  const int64_t written = trace_->written_bytes() - before;
  counted_bytes_ += written;
  saves_->wrote(int64_t(values_->bytes()));
  phase.end();
  tell_best(written);
}

void Trainer::tell_best(int64_t written) {
  trace_->record("event",
                 Json()
                     .field("t", trace_->now())
                     .field("event", "best")
                     .field("detail", format("step %lld, held-out loss %.6g",
                                             (long long)held_out_.best_step, held_out_.best_loss))
                     .field("step", held_out_.best_step)
                     .field("written_bytes", written));
}

/// Removes the adapters of steps after the one the run goes on from, which need not come again,
/// checkpoints that a kill kept from going, and a best one that is not wanted any more.
void Trainer::settle_kept() {
  checkpoints_.keep([&](int64_t step) { return step <= resumed_from_; });
  if (options_.keep_checkpoints > 0) checkpoints_.keep_last(options_.keep_checkpoints);
  const int64_t best = held_out_.best_step;
  best_.keep([&](int64_t step) { return keeps_best() && step == best; });
  if (!keeps_best() || best < 0 || best_.has(best)) return;
  held_out_ = HeldOut();
  evaluated_step_ = -1;
  start_events_.push_back({"best_unknown", format("the adapter of step %lld was not kept: the best "
                                                  "is that of the steps to come",
                                                  (long long)best)});
}

}  // namespace toolkit
