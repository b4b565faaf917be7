// APOLLO (arXiv 2412.05270): Adam's moments of a random projection of the gradient say by how much
// to scale the gradient itself. Of a tensor's two dimensions the smaller is projected to R numbers,
// so that every channel, one of the larger, has R:
//   R = g Pᵀ;  m = beta1 m + (1 - beta1) R;  v = beta2 v + (1 - beta2) R²;  N = m / (sqrt(v) + eps)
//   G = g * |N| / (|R| + 1e-8), norms of each channel, in apollo-mini of the tensor
//   G /= max(|G| / before, 1.01) / 1.01, before: its norm in the last step (this is left out when
//   there was no gradient, as at first for A, where B is zero);  G *= sqrt(update_scale)
//   p -= lr * sqrt(1 - beta2^t) / (1 - beta1^t) * G;  p -= lr * weight_decay * p
// P [R, smaller] has normal numbers of variance 1 / R, others every projection_gap steps, the same
// for all tensors: SplitMix64 seeded with how often that was, two numbers of it by Box and Muller.
#include <algorithm>
#include <cmath>

#include "engine/training/norms.h"
#include "engine/training/optimizers/optimizer.h"
#include "engine/training/options.h"
#include "engine/training/sampler.h"

namespace toolkit {
namespace {

constexpr double kGrowth = 1.01, kTiny = 1e-8, kPi = 3.14159265358979323846;

std::vector<double> normal_numbers(uint64_t seed, int64_t count, double deviation) {
  SplitMix64 random(seed);
  const auto uniform = [&] { return double(random.next() >> 11) * 0x1p-53; };
  std::vector<double> numbers;
  while (int64_t(numbers.size()) < count) {
    const double radius = std::sqrt(-2 * std::log(1 - uniform())), angle = 2 * kPi * uniform();
    numbers.push_back(deviation * radius * std::cos(angle));
    numbers.push_back(deviation * radius * std::sin(angle));
  }
  numbers.resize(size_t(count));
  return numbers;
}

class Apollo : public Optimizer {
 public:
  Apollo(const Options& options, bool by_channel)
      : by_channel_(by_channel),
        rank_(options.projection_rank),
        gap_(options.projection_gap),
        scale_(options.update_scale),
        beta1_(options.beta1),
        beta2_(options.beta2),
        eps_(options.eps),
        weight_decay_(options.weight_decay) {}

  std::vector<StateSpec> states(Shape shape) const override {
    const int64_t count = std::max(shape.rows, shape.columns) * rank_;
    return {{"first_moment", "float32", count},
            {"second_moment", "float32", count},
            {"norm", "float32", 1}};
  }

  void update(const TrainedTensor& tensor, float* gradient, StepSize size) override {
    const Shape shape = tensor.shape;
    project(shape, gradient, size.step);
    scale_gradient(tensor, gradient);
    const double norm = std::sqrt(sum_of_squares(gradient, size_t(shape.count())));
    float& before = *tensor.floats(2);
    const double limit = before > 0 ? std::max(norm / (before + kTiny), kGrowth) / kGrowth : 1;
    before = float(norm / limit);
    const double t = double(size.step);
    const double correction = std::sqrt(1 - std::pow(beta2_, t)) / (1 - std::pow(beta1_, t));
    const float rate = float(size.lr * correction * std::sqrt(scale_) / limit);
    const float decay = float(size.lr * weight_decay_);
    float* values = tensor.values;
    each_range(shape.count(), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        values[i] -= rate * gradient[i];
        values[i] -= decay * values[i];
      }
    });
  }

 private:
  static bool is_tall(Shape shape) { return shape.rows >= shape.columns; }

  /// R of every channel, one after the other; in double, as a sum that is nearly zero decides by
  /// how much a channel is scaled.
  void project(Shape shape, const float* gradient, int64_t step) {
    const int64_t channels = std::max(shape.rows, shape.columns);
    const int64_t width = std::min(shape.rows, shape.columns);
    const std::vector<double> p =
        normal_numbers(uint64_t((step - 1) / gap_), rank_ * width, 1 / std::sqrt(double(rank_)));
    const int64_t next_channel = is_tall(shape) ? shape.columns : 1;
    const int64_t next = is_tall(shape) ? 1 : shape.columns;
    projected_.resize(size_t(channels * rank_));
    each_range(channels * rank_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float* g = gradient + i / rank_ * next_channel;
        const double* row = &p[i % rank_ * width];
        double sum = 0;
        for (int64_t j = 0; j < width; ++j) sum += row[j] * g[j * next];
        projected_[i] = sum;
      }
    });
  }

  /// Changes the moments and multiplies the gradient by what they say.
  void scale_gradient(const TrainedTensor& tensor, float* gradient) {
    const Shape shape = tensor.shape;
    const int64_t channels = std::max(shape.rows, shape.columns);
    std::vector<double> moved(channels, 0), raw(channels, 0);
    change_moments(tensor, channels, moved.data(), raw.data());
    if (!by_channel_) {
      double moved_all = 0, raw_all = 0;
      for (int64_t i = 0; i < channels; ++i) moved_all += moved[i], raw_all += raw[i];
      std::fill(moved.begin(), moved.end(), moved_all);
      std::fill(raw.begin(), raw.end(), raw_all);
    }
    std::vector<float> factors(channels);
    for (int64_t i = 0; i < channels; ++i) {
      factors[i] = float(std::sqrt(moved[i]) / (std::sqrt(raw[i]) + kTiny));
    }
    const bool tall = is_tall(shape);
    for (int64_t i = 0; i < shape.rows; ++i) {
      float* g = gradient + i * shape.columns;
      for (int64_t j = 0; j < shape.columns; ++j) g[j] *= factors[tall ? i : j];
    }
  }

  /// Also gives the sums of squares of N and R of every channel.
  void change_moments(const TrainedTensor& tensor, int64_t channels, double* moved, double* raw) {
    float *m = tensor.floats(0), *v = tensor.floats(1);
    for (int64_t i = 0; i < channels * rank_; ++i) {
      const double r = projected_[i];
      m[i] = float(beta1_ * m[i] + (1 - beta1_) * r);
      v[i] = float(beta2_ * v[i] + (1 - beta2_) * r * r);
      const double n = m[i] / (std::sqrt(double(v[i])) + eps_);
      moved[i / rank_] += n * n;
      raw[i / rank_] += r * r;
    }
  }

  const bool by_channel_;
  const int64_t rank_, gap_;
  const double scale_, beta1_, beta2_, eps_, weight_decay_;
  std::vector<double> projected_;
};

}  // namespace

extern const OptimizerRow kApollo, kApolloMini;
const OptimizerRow kApollo = {
    "apollo",
    "p -= lr s g, s for each channel from adamw's moments of a random projection of g: two numbers "
    "a channel are its state",
    {{"weight-decay"},
     {"beta1"},
     {"beta2"},
     {"eps", "1e-06"},
     {"projection-rank"},
     {"projection-gap"},
     {"update-scale"}},
    [](const Options& options) -> std::unique_ptr<Optimizer> {
      return std::make_unique<Apollo>(options, true);
    }};
const OptimizerRow kApolloMini = {"apollo-mini",
                                  "apollo with one s for the whole tensor",
                                  {{"weight-decay"},
                                   {"beta1"},
                                   {"beta2"},
                                   {"eps", "1e-06"},
                                   {"projection-rank"},
                                   {"projection-gap"},
                                   {"update-scale", "128"}},
                                  [](const Options& options) -> std::unique_ptr<Optimizer> {
                                    return std::make_unique<Apollo>(options, false);
                                  }};

}  // namespace toolkit
