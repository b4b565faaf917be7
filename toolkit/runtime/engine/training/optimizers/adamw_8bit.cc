// AdamW with moments of 8 bits (torchao.optim.AdamW8bit):
//   m += (1 - beta1) (g - m);  v += (1 - beta2) (g² - v);  p -= lr * weight_decay * p;
//   p -= lr * (m / (1 - beta1^t)) / (sqrt(v) / sqrt(1 - beta2^t) + eps)
// with m and v as they were rounded after the last step: blocks of 256 neighbours, each with the
// largest magnitude in float32. Tensors that are small or no multiple of a block keep float32.
#include <algorithm>
#include <cmath>

#include "engine/training/optimizers/dynamic_map.h"
#include "engine/training/optimizers/optimizer.h"
#include "engine/training/options.h"

namespace toolkit {
namespace {

constexpr int64_t kBlock = 256, kSmall = 4096;  // elements

/// A block of a moment: its codes and the value that they are multiplied by.
struct Rounded {
  const DynamicMap& map;
  uint8_t* codes;
  float* scale;

  void read(float* values) const {
    for (int64_t i = 0; i < kBlock; ++i) values[i] = map.value(codes[i]) * *scale;
  }
  void write(const float* values) const {
    float most = 1e-12f;
    for (int64_t i = 0; i < kBlock; ++i) most = std::max(most, std::fabs(values[i]));
    for (int64_t i = 0; i < kBlock; ++i) codes[i] = map.code(values[i] / most);
    *scale = most;
  }
};

class AdamW8bit : public Optimizer {
 public:
  explicit AdamW8bit(const Options& options)
      : beta1_(options.beta1),
        beta2_(options.beta2),
        weight_decay_(options.weight_decay),
        eps_(float(options.eps)),
        signed_(true),
        unsigned_(false) {}

  std::vector<StateSpec> states(Shape shape) const override {
    const int64_t count = shape.count(), blocks = count / kBlock;
    if (!rounds(shape)) {
      return {{"first_moment", "float32", count}, {"second_moment", "float32", count}};
    }
    return {{"first_moment", "uint8", count},
            {"first_scale", "float32", blocks},
            {"second_moment", "uint8", count},
            {"second_scale", "float32", blocks}};
  }

  void update(const TrainedTensor& tensor, float* gradient, StepSize size) override {
    const Step step = step_of(size);
    float* values = tensor.values;
    if (!rounds(tensor.shape)) {
      float *m = tensor.floats(0), *v = tensor.floats(1);
      each_range(tensor.shape.count(), [=](int64_t begin, int64_t end) {
        step.apply(values + begin, gradient + begin, m + begin, v + begin, end - begin);
      });
      return;
    }
    each_range(tensor.shape.count(), [&, values](int64_t begin, int64_t end) {
      // The blocks that begin here.
      const int64_t last = (end + kBlock - 1) / kBlock;
      for (int64_t block = (begin + kBlock - 1) / kBlock; block < last; ++block) {
        const int64_t at = block * kBlock;
        const Rounded first = {signed_, tensor.bytes(0) + at, tensor.floats(1) + block};
        const Rounded second = {unsigned_, tensor.bytes(2) + at, tensor.floats(3) + block};
        float m[kBlock], v[kBlock];
        first.read(m);
        second.read(v);
        step.apply(values + at, gradient + at, m, v, kBlock);
        first.write(m);
        second.write(v);
      }
    });
  }

 private:
  struct Step {
    float lerp1, lerp2, decay, rate, correction1, root2, eps;

    void apply(float* values, const float* gradient, float* m, float* v, int64_t count) const {
      for (int64_t i = 0; i < count; ++i) {
        const float g = gradient[i];
        m[i] += lerp1 * (g - m[i]);
        v[i] += lerp2 * (g * g - v[i]);
        values[i] -= decay * values[i];
        values[i] -= rate * (m[i] / correction1) / (std::sqrt(v[i]) / root2 + eps);
      }
    }
  };

  static bool rounds(Shape shape) { return shape.count() >= kSmall && shape.count() % kBlock == 0; }

  Step step_of(StepSize size) const {
    const double t = double(size.step);
    return {float(1 - beta1_),
            float(1 - beta2_),
            float(size.lr * weight_decay_),
            float(size.lr),
            float(1 - std::pow(beta1_, t)),
            float(std::sqrt(1 - std::pow(beta2_, t))),
            eps_};
  }

  const double beta1_, beta2_, weight_decay_;
  const float eps_;
  const DynamicMap signed_, unsigned_;
};

}  // namespace

extern const OptimizerRow kAdamW8bit;
const OptimizerRow kAdamW8bit = {
    "adamw-8bit",
    "adamw whose moments are 8-bit codes times the largest of 256 neighbours: a quarter of its "
    "state; tensors below 4096 elements keep float32",
    {{"weight-decay"}, {"beta1"}, {"beta2"}, {"eps"}},
    [](const Options& options) -> std::unique_ptr<Optimizer> {
      return std::make_unique<AdamW8bit>(options);
    }};

}  // namespace toolkit
