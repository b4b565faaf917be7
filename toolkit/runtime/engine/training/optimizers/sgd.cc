// torch.optim.SGD: g += weight_decay * p;  m = momentum * m + g (m = g at step 1);  p -= lr * m.
// Without momentum it keeps nothing and is LOMO: a block is updated as soon as its gradients exist.
#include <algorithm>

#include "engine/training/optimizers/optimizer.h"
#include "engine/training/options.h"

namespace toolkit {
namespace {

class Sgd : public Optimizer {
 public:
  explicit Sgd(const Options& options)
      : decay_(float(options.weight_decay)), momentum_(float(options.momentum)) {}

  std::vector<StateSpec> states(Shape shape) const override {
    if (momentum_ == 0) return {};
    return {{"momentum", "float32", shape.count()}};
  }

  void update(const TrainedTensor& tensor, float* gradient, StepSize size) override {
    const float rate = float(-size.lr), decay = decay_, momentum = momentum_;
    float *values = tensor.values, *moments = momentum != 0 ? tensor.floats(0) : nullptr;
    each_range(tensor.shape.count(), [=](int64_t begin, int64_t end) {
      float *v = values + begin, *g = gradient + begin;
      const int64_t n = end - begin;
      if (decay != 0) {
        for (int64_t i = 0; i < n; ++i) g[i] += decay * v[i];
      }
      if (moments != nullptr) {
        float* m = moments + begin;
        if (size.step == 1) {
          std::copy(g, g + n, m);
        } else {
          for (int64_t i = 0; i < n; ++i) m[i] = m[i] * momentum + g[i];
        }
        g = m;
      }
      for (int64_t i = 0; i < n; ++i) v[i] += rate * g[i];
    });
  }

 private:
  const float decay_, momentum_;
};

}  // namespace

extern const OptimizerRow kSgd;
const OptimizerRow kSgd = {
    "sgd",
    "p -= lr m, m = momentum m + g + weight-decay p; without momentum it keeps no state",
    {{"weight-decay"}, {"momentum"}},
    [](const Options& options) -> std::unique_ptr<Optimizer> {
      return std::make_unique<Sgd>(options);
    }};

}  // namespace toolkit
