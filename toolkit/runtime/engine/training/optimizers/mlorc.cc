// MLorc (arXiv 2506.01897): AdamW whose moments are kept as products of low rank.
//   m = beta1 m + (1 - beta1) g;  v = beta2 v' + (1 - beta2) g², v' = v with what compressing made
//   negative replaced by the mean of those magnitudes
//   p -= lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps);  p -= lr * weight_decay * p
// and m and v are compressed after the update. A rank that is a tensor's own compresses nothing:
// its moments are kept as they are. The paper approximates the singular vectors by random
// projections, here they are exact: a tensor of an adapter is small. What is computed with lies in
// the kernels' scratch, which nothing else needs meanwhile.
#include <algorithm>
#include <cmath>

#include "engine/training/optimizers/low_rank.h"
#include "engine/training/optimizers/optimizer.h"
#include "engine/training/options.h"
#include "kernels/dry_run.h"
#include "kernels/workspace.h"

namespace toolkit {
namespace {

class Mlorc : public Optimizer {
 public:
  explicit Mlorc(const Options& options)
      : rank_(options.projection_rank),
        beta1_(options.beta1),
        beta2_(options.beta2),
        eps_(float(options.eps)),
        weight_decay_(options.weight_decay) {}

  std::vector<StateSpec> states(Shape shape) const override {
    const int64_t small = small_of(shape), wide = shape.count() / small;
    if (rank_ >= small) {
      return {{"first_moment", "float32", shape.count()},
              {"second_moment", "float32", shape.count()}};
    }
    return {{"first_basis", "float32", small * rank_},
            {"first_factor", "float32", wide * rank_},
            {"second_basis", "float32", small * rank_},
            {"second_factor", "float32", wide * rank_}};
  }

  void update(const TrainedTensor& tensor, float* gradient, StepSize size) override {
    const Shape shape = tensor.shape;
    if (rank_ >= small_of(shape)) {
      return apply(tensor, gradient, tensor.floats(0), tensor.floats(1), size);
    }
    Scratch scratch;
    float* m = scratch.floats(shape.count());
    float* v = scratch.floats(shape.count());
    read(tensor, 0, m);
    read(tensor, 2, v);
    if (DryRun::current() == nullptr) {
      make_positive(v, shape.count());
      apply(tensor, gradient, m, v, size);
    }
    write(tensor, 0, m);
    write(tensor, 2, v);
  }

 private:
  static int64_t small_of(Shape shape) { return std::min(shape.rows, shape.columns); }

  static void make_positive(float* values, int64_t count) {
    double sum = 0;
    int64_t negative = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (values[i] >= 0) continue;
      sum -= values[i];
      ++negative;
    }
    const float mean = negative > 0 ? float(sum / double(negative)) : 0;
    for (int64_t i = 0; i < count; ++i) values[i] = values[i] < 0 ? mean : values[i];
  }

  void apply(const TrainedTensor& tensor, const float* gradient, float* m, float* v,
             StepSize size) const {
    const double t = double(size.step);
    const double correction = std::sqrt(1 - std::pow(beta2_, t)) / (1 - std::pow(beta1_, t));
    const float rate = float(size.lr * correction), decay = float(size.lr * weight_decay_);
    const float decay1 = float(beta1_), gain1 = float(1 - beta1_);
    const float decay2 = float(beta2_), gain2 = float(1 - beta2_), eps = eps_;
    float* values = tensor.values;
    each_range(tensor.shape.count(), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float g = gradient[i];
        m[i] = m[i] * decay1 + gain1 * g;
        v[i] = v[i] * decay2 + gain2 * g * g;
        values[i] -= rate * (m[i] / (std::sqrt(v[i]) + eps));
        values[i] -= decay * values[i];
      }
    });
  }

  /// A moment in the tensor's shape, from its basis and factor or to them; wide ones lie as they
  /// are computed with, tall ones across.
  void read(const TrainedTensor& tensor, int state, float* moment) {
    const Shape shape = tensor.shape;
    const int64_t small = small_of(shape), wide = shape.count() / small;
    const bool across = shape.rows > shape.columns;
    Scratch scratch;
    float* turned = scratch.floats(shape.count());
    if (DryRun::current() != nullptr) return;
    restore(tensor.floats(state), tensor.floats(state + 1), small, wide, rank_,
            across ? turned : moment);
    if (across) transpose(turned, small, wide, moment);
  }

  void write(const TrainedTensor& tensor, int state, const float* moment) {
    const Shape shape = tensor.shape;
    const int64_t small = small_of(shape), wide = shape.count() / small;
    const bool across = shape.rows > shape.columns;
    Scratch scratch;
    float* turned = scratch.floats(shape.count());
    double* sums = static_cast<double*>(scratch.bytes(wide * 8));
    if (DryRun::current() != nullptr) return;
    if (across) transpose(moment, wide, small, turned);
    compress(across ? turned : moment, small, wide, rank_, tensor.floats(state),
             tensor.floats(state + 1), sums);
  }

  static void transpose(const float* from, int64_t rows, int64_t columns, float* to) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) to[j * rows + i] = from[i * columns + j];
    }
  }

  const int64_t rank_;
  const double beta1_, beta2_;
  const float eps_;
  const double weight_decay_;
};

}  // namespace

extern const OptimizerRow kMlorc;
const OptimizerRow kMlorc = {
    "mlorc",
    "adamw whose moments are kept as products of rank projection-rank: half of its state at half "
    "the rank of an adapter",
    {{"weight-decay", "0.01"}, {"beta1"}, {"beta2"}, {"eps"}, {"projection-rank", "4"}},
    [](const Options& options) -> std::unique_ptr<Optimizer> {
      return std::make_unique<Mlorc>(options);
    }};

}  // namespace toolkit
