// Lion (arXiv 2302.06675), with decoupled weight decay:
//   p *= 1 - lr * weight_decay;  p -= lr * sign(beta1 * m + (1 - beta1) g);
//   m = beta2 * m + (1 - beta2) g
#include "engine/training/optimizers/optimizer.h"
#include "engine/training/options.h"

namespace toolkit {
namespace {

class Lion : public Optimizer {
 public:
  explicit Lion(const Options& options)
      : beta1_(options.beta1), beta2_(options.beta2), weight_decay_(options.weight_decay) {}

  std::vector<StateSpec> states(Shape shape) const override {
    return {{"momentum", "float32", shape.count()}};
  }

  void update(const TrainedTensor& tensor, float* gradient, StepSize size) override {
    const float keep = float(1 - size.lr * weight_decay_), rate = float(-size.lr);
    const float decay1 = float(beta1_), gain1 = float(1 - beta1_);
    const float decay2 = float(beta2_), gain2 = float(1 - beta2_);
    float *values = tensor.values, *m = tensor.floats(0);
    each_range(tensor.shape.count(), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float g = gradient[i];
        const float mixed = m[i] * decay1 + gain1 * g;
        const float sign = float(mixed > 0) - float(mixed < 0);
        values[i] = values[i] * keep + rate * sign;
        m[i] = m[i] * decay2 + gain2 * g;
      }
    });
  }

 private:
  const double beta1_, beta2_, weight_decay_;
};

}  // namespace

extern const OptimizerRow kLion;
const OptimizerRow kLion = {
    "lion",
    "p -= lr (sign(beta1 m + (1 - beta1) g) + weight-decay p), m = beta2 m + (1 - beta2) g; one "
    "moment, rates a third to a tenth of adamw's",
    {{"weight-decay"}, {"beta1"}, {"beta2", "0.99"}},
    [](const Options& options) -> std::unique_ptr<Optimizer> {
      return std::make_unique<Lion>(options);
    }};

}  // namespace toolkit
