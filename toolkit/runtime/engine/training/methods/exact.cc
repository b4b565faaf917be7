// The exact gradient: forward with every block's input kept, then backward block by block. Without
// clipping a block's adapters are updated as soon as their gradients exist, so that those of one
// block are alive; the gradient that the block below gets was computed before. With clipping the
// norm of all is needed first. The pass ends with the lowest layer that is trained; those above it
// that are not trained pass the gradient on.
#include <cmath>

#include "engine/error.h"
#include "engine/memory/memory.h"
#include "engine/training/methods/method.h"
#include "engine/training/norms.h"

namespace toolkit {
namespace {

class Exact : public StepMethod {
 public:
  explicit Exact(const MethodParts& parts)
      : parts_(parts),
        layout_(parts.network.adapter()),
        lowest_(parts.trained.first()),
        max_norm_(parts.options.max_grad_norm),
        states_(layout_.layers() - lowest_, parts.network.bundle().any_keeps(lowest_),
                parts.options.grad_accum, parts.network.hidden_bytes(),
                checkpoints_from(parts.options.checkpoints), parts.options.out) {
    const size_t all = layout_.total_floats() - layout_.begin(lowest_);
    const size_t floats = clips() ? all : layout_.largest_floats();
    gradients_ = Buffer(floats * sizeof(float), Category::gradients, "toolkit gradients");
  }

  StepResult step(const std::vector<int64_t>& samples, StepSize size) override {
    double squares = 0;
    const LossSum sum = parts_.passes.gradients(
        samples, parts_.updater.values(), lowest_, states_,
        [this](int64_t layer) { return of(layer); },
        [&](int64_t layer) {
          if (!parts_.trained.has(layer)) return;
          squares += checked_squares(layer);
          if (clips()) return;
          Phase phase(parts_.trace, "optimizer", layer);
          parts_.updater.update(layer, of(layer), size);
        });
    const double norm = std::sqrt(squares);
    if (clips()) update_clipped(norm, size);
    return {sum, norm};
  }

  void rest() override { states_.release(); }
  const HiddenStates* checkpoints() const override { return &states_; }

 private:
  bool clips() const { return max_norm_ > 0; }
  float* of(int64_t layer) const {
    return gradients_.floats() + (clips() ? layout_.begin(layer) - layout_.begin(lowest_) : 0);
  }

  double checked_squares(int64_t layer) const {
    const double squares = sum_of_squares(of(layer), layout_.layer_floats(layer));
    if (std::isfinite(squares)) return squares;
    fail("the gradient of layer %lld is not finite. Use a lower learning rate or clip gradients",
         (long long)layer);
  }

  void update_clipped(double norm, StepSize size) {
    Phase phase(parts_.trace, "optimizer");
    const float factor = float(clip_factor(norm, max_norm_));
    for (int64_t layer : parts_.trained.list()) {
      float* gradient = of(layer);
      const size_t floats = layout_.layer_floats(layer);
      for (size_t i = 0; i < floats; ++i) gradient[i] *= factor;
      parts_.updater.update(layer, gradient, size);
    }
  }

  const MethodParts parts_;
  const AdapterLayout& layout_;
  const int64_t lowest_;
  const double max_norm_;
  HiddenStates states_;
  Buffer gradients_;
};

}  // namespace

extern const MethodRow kExact;
const MethodRow kExact = {"exact",
                          "the gradient of the loss, by backpropagation block by block",
                          {{"max-grad-norm"}, {"checkpoints"}},
                          true,
                          true,
                          true,
                          [](const MethodParts& parts) -> std::unique_ptr<StepMethod> {
                            return std::make_unique<Exact>(parts);
                          }};

}  // namespace toolkit
