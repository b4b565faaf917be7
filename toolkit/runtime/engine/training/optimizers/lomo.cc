// LOMO (arXiv 2306.09782):  p *= 1 - lr * weight_decay;  p -= lr * g.
// A rule without a state, for gradients that are used as soon as they exist: what the exact method
// does with every optimizer. Without decay it is sgd, bit by bit.
#include "engine/training/optimizers/optimizer.h"
#include "engine/training/options.h"

namespace toolkit {
namespace {

class Lomo : public Optimizer {
 public:
  explicit Lomo(const Options& options) : weight_decay_(options.weight_decay) {}

  std::vector<StateSpec> states(Shape) const override { return {}; }

  void update(const TrainedTensor& tensor, float* gradient, StepSize size) override {
    const float keep = float(1 - size.lr * weight_decay_), rate = float(-size.lr);
    float* values = tensor.values;
    each_range(tensor.shape.count(), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) values[i] = values[i] * keep + rate * gradient[i];
    });
  }

 private:
  const double weight_decay_;
};

}  // namespace

extern const OptimizerRow kLomo;
const OptimizerRow kLomo = {
    "lomo",
    "p -= lr (g + weight-decay p): what sgd is without momentum, one block's gradient alive; clips "
    "to a norm with --clipping twice",
    {{"weight-decay"}},
    [](const Options& options) -> std::unique_ptr<Optimizer> {
      return std::make_unique<Lomo>(options);
    }};

}  // namespace toolkit
