// The exact gradient: forward with every block's input kept, then backward block by block. Without
// clipping a block's adapters are updated as soon as their gradients exist, so that those of one
// block are alive; the gradient that the block below gets was computed before. With clipping the
// norm of all is needed first.
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
        layers_(parts.network.bundle().layers),
        layer_floats_(parts.network.adapter().layer_floats()),
        max_norm_(parts.options.max_grad_norm),
        states_(layers_, parts.options.grad_accum, parts.network.hidden_bytes(),
                checkpoints_from(parts.options.checkpoints), parts.options.out) {
    const size_t floats = layer_floats_ * size_t(clips() ? layers_ : 1);
    gradients_ = Buffer(floats * sizeof(float), Category::gradients, "toolkit gradients");
  }

  StepResult step(const std::vector<int64_t>& samples, StepSize size) override {
    double squares = 0;
    const LossSum sum = parts_.passes.gradients(
        samples, parts_.updater.values(), states_, [this](int64_t layer) { return of(layer); },
        [&](int64_t layer) {
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
    return gradients_.floats() + (clips() ? size_t(layer) * layer_floats_ : 0);
  }

  double checked_squares(int64_t layer) const {
    const double squares = sum_of_squares(of(layer), layer_floats_);
    if (std::isfinite(squares)) return squares;
    fail("the gradient of layer %lld is not finite. Use a lower learning rate or clip gradients",
         (long long)layer);
  }

  void update_clipped(double norm, StepSize size) {
    Phase phase(parts_.trace, "optimizer");
    const float factor = float(clip_factor(norm, max_norm_));
    for (int64_t layer = 0; layer < layers_; ++layer) {
      float* gradient = of(layer);
      for (size_t i = 0; i < layer_floats_; ++i) gradient[i] *= factor;
      parts_.updater.update(layer, gradient, size);
    }
  }

  const MethodParts parts_;
  const int64_t layers_;
  const size_t layer_floats_;
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
