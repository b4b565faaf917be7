// torch.optim.AdamW:
//   p *= 1 - lr * weight_decay;  m += (1 - beta1) (g - m);  v = beta2 * v + (1 - beta2) g²;
//   p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
#include <cmath>

#include "engine/training/optimizers/optimizer.h"
#include "engine/training/options.h"

namespace toolkit {
namespace {

class AdamW : public Optimizer {
 public:
  explicit AdamW(const Options& options)
      : beta1_(options.beta1),
        beta2_(options.beta2),
        weight_decay_(options.weight_decay),
        eps_(float(options.eps)) {}

  std::vector<StateSpec> states(Shape shape) const override {
    return {{"first_moment", "float32", shape.count()},
            {"second_moment", "float32", shape.count()}};
  }

  void update(const TrainedTensor& tensor, float* gradient, StepSize size) override {
    const double correction1 = 1 - std::pow(beta1_, double(size.step));
    const float root2 = float(std::sqrt(1 - std::pow(beta2_, double(size.step))));
    const float keep = float(1 - size.lr * weight_decay_), rate = float(-(size.lr / correction1));
    const float lerp = float(1 - beta1_), decay2 = float(beta2_), gain2 = float(1 - beta2_);
    const float eps = eps_;
    float *values = tensor.values, *m = tensor.floats(0), *v = tensor.floats(1);
    each_range(tensor.shape.count(), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float g = gradient[i];
        m[i] += lerp * (g - m[i]);
        v[i] = v[i] * decay2 + gain2 * g * g;
        const float denominator = std::sqrt(v[i]) / root2 + eps;
        values[i] = values[i] * keep + rate * (m[i] / denominator);
      }
    });
  }

 private:
  const double beta1_, beta2_, weight_decay_;
  const float eps_;
};

}  // namespace

extern const OptimizerRow kAdamW;
const OptimizerRow kAdamW = {
    "adamw",
    "p -= lr (m / (sqrt(v) + eps) + weight-decay p), m and v bias-corrected means of g and g²",
    {{"weight-decay"}, {"beta1"}, {"beta2"}, {"eps"}},
    [](const Options& options) -> std::unique_ptr<Optimizer> {
      return std::make_unique<AdamW>(options);
    }};

}  // namespace toolkit
