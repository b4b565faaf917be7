#include "engine/training/methods/backpropagation.h"

#include <algorithm>
#include <cmath>

#include "engine/error.h"
#include "engine/memory/memory.h"
#include "engine/training/norms.h"

namespace toolkit {

Backpropagation::Backpropagation(const MethodParts& parts, int64_t top)
    : parts_(parts),
      layout_(parts.network.adapter()),
      lowest_(parts.trained.first()),
      max_norm_(parts.options.max_grad_norm),
      keeps_(max_norm_ > 0 && parts.options.clipping == "keep"),
      twice_(max_norm_ > 0 && parts.options.clipping == "twice"),
      by_last_(max_norm_ > 0 && parts.options.clipping == "last-norm"),
      squares_(size_t(layout_.layers())),
      states_((top < 0 ? layout_.layers() : top) - lowest_,
              parts.network.bundle().any_keeps(lowest_), parts.options.grad_accum,
              parts.network.hidden_bytes(), checkpoints_from(parts.options.checkpoints),
              parts.options.out) {
  if (max_norm_ == 0 && parts.options.clipping != "keep") {
    fail_usage("--clipping says how --max-grad-norm is kept to: give that, too");
  }
  for (int64_t layer = 0; layer < layout_.layers(); ++layer) {
    choice_.taken.push_back(parts.trained.has(layer));
  }
  const char* const name = "toolkit gradients";
  if (keeps_) {
    all_ = std::make_unique<LayerMemory>(layout_.gradients().begins_from(lowest_),
                                         Category::gradients, name, parts.spill);
  } else {
    one_ = Buffer(layout_.gradients().largest() * sizeof(float), Category::gradients, name);
  }
}

StepResult Backpropagation::step(const std::vector<int64_t>& samples, StepSize size) {
  choose(size.step, choice_);
  if (max_norm_ == 0) return updating_pass(samples, size, 1);
  if (keeps_) {
    const StepResult result = pass(samples, [](int64_t) {}, false);
    update_kept(factor_of(result.grad_norm), size);
    return result;
  }
  // No step came before the first one.
  const bool first = twice_ || last_norm_ < 0;
  const double norm = first ? pass(samples, [](int64_t) {}, false).grad_norm : last_norm_;
  const StepResult result = updating_pass(samples, size, factor_of(norm));
  last_norm_ = float(result.grad_norm);
  return result;
}

std::vector<StateArray> Backpropagation::arrays() {
  if (!by_last_) return {};
  return {{"last_norm", "gradient", "float32", 1, &last_norm_}};
}

float* Backpropagation::of(int64_t layer) const {
  if (!keeps_) return one_.floats();
  all_->use(layer);
  const LayerPlaces& places = layout_.gradients();
  return all_->floats() + places.begin(layer) - places.begin(lowest_);
}

float Backpropagation::factor_of(double norm) const { return float(clip_factor(norm, max_norm_)); }

StepResult Backpropagation::pass(const std::vector<int64_t>& samples, const Passes::LayerDone& done,
                                 bool changes) {
  double squares = 0;
  const auto first = std::find(choice_.taken.begin(), choice_.taken.end(), true);
  const LossSum sum = parts_.passes.gradients(
      samples, parts_.updater.values(), first - choice_.taken.begin(), states_,
      [this](int64_t layer) { return of(layer); },
      [&](int64_t layer) {
        if (choice_.taken[layer]) {
          squares += squares_[layer] = checked_squares(layer);
          done(layer);
        }
        if (keeps_) all_->rest(layer, true);
      },
      changes, choice_.skipped);
  return {sum, std::sqrt(squares)};
}

StepResult Backpropagation::updating_pass(const std::vector<int64_t>& samples, StepSize size,
                                          float factor) {
  const auto done = [&](int64_t layer) {
    Phase phase(parts_.trace, "optimizer", layer);
    update(layer, factor, size);
  };
  return pass(samples, done, true);
}

double Backpropagation::checked_squares(int64_t layer) const {
  const double squares = sum_of_squares(of(layer), layout_.gradients().floats(layer));
  if (std::isfinite(squares)) return squares;
  fail("the gradient of layer %lld is not finite. Use a lower learning rate or clip gradients",
       (long long)layer);
}

void Backpropagation::update_kept(float factor, StepSize size) {
  Phase phase(parts_.trace, "optimizer");
  for (int64_t layer : parts_.trained.list()) {
    if (choice_.taken[layer]) update(layer, factor, size);
  }
}

void Backpropagation::update(int64_t layer, float factor, StepSize size) {
  float* gradient = of(layer);
  const size_t floats = layout_.gradients().floats(layer);
  size.step = taking(layer, std::sqrt(squares_[layer]), size.step);
  for (size_t i = 0; factor != 1 && i < floats; ++i) gradient[i] *= factor;
  parts_.updater.update(layer, gradient, size);
  if (keeps_) all_->rest(layer, true);
}

}  // namespace toolkit
