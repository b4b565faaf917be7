// Held-out data in the course of a run.
#include <algorithm>
#include <cmath>

#include "engine/training/trainer.h"

namespace toolkit {
namespace {

constexpr size_t kEvaluationMemory = 8 << 20;

}  // namespace

void Trainer::evaluate() {
  if (eval_passes_ == nullptr || evaluated_step_ == report_.step) return;
  evaluated_step_ = report_.step;
  method_->rest();
  int64_t samples = eval_data_->samples();
  if (options_.max_samples > 0) samples = std::min(samples, options_.max_samples);
  bool interrupted = false;
  const LossSum sum = eval_passes_->evaluate(
      samples, values_.floats(), kEvaluationMemory, [&](int64_t done, const LossSum&) {
        return interrupted = stop_requested() && done < samples;
      });
  if (interrupted || sum.tokens == 0) return;
  trace_->record("evaluation", Json()
                                   .field("step", report_.step)
                                   .field("loss", sum.mean())
                                   .field("perplexity", std::exp(sum.mean()))
                                   .field("tokens", sum.tokens));
  trace_->flush();
}

}  // namespace toolkit
