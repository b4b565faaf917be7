// AdaLomo (arXiv 2310.10195): LOMO with a second moment of rows and columns.
//   b = 1 - t^-decay_rate;  u = g² + eps;  row = b * row + (1 - b) mean of u over columns;  col
//   likewise over rows;  U = g / sqrt(row / mean(row) * col);  U /= max(1, rms(U) / update_clip)
//   rate = lr * max(rms_floor, rms(p));  p *= 1 - rate * weight_decay;  p -= rate * U
// A new adapter's B is zero: it moves by lr * rms_floor a step at first.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/training/optimizers/optimizer.h"
#include "engine/training/options.h"

namespace toolkit {
namespace {

double mean_square(const float* values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += double(values[i]) * values[i];
  return sum / double(count);
}

class AdaLomo : public Optimizer {
 public:
  explicit AdaLomo(const Options& options)
      : decay_rate_(options.decay_rate),
        eps_(options.eps),
        clip_(options.update_clip),
        floor_(options.rms_floor),
        weight_decay_(options.weight_decay) {}

  std::vector<StateSpec> states(Shape shape) const override {
    return {{"row_mean", "float32", shape.rows}, {"column_mean", "float32", shape.columns}};
  }

  void update(const TrainedTensor& tensor, float* gradient, StepSize size) override {
    const Shape shape = tensor.shape;
    const int64_t count = shape.count();
    change_means(tensor, gradient, 1 - std::pow(double(size.step), -decay_rate_));
    divide_by_roots(tensor, gradient);
    const double rms = std::sqrt(mean_square(gradient, count));
    const double own = std::sqrt(mean_square(tensor.values, count));
    const double rate = size.lr * std::max(floor_, own);
    const float keep = float(1 - rate * weight_decay_);
    const float factor = float(rate / std::max(1.0, rms / clip_));
    float* values = tensor.values;
    each_range(count, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) values[i] = values[i] * keep - factor * gradient[i];
    });
  }

 private:
  void change_means(const TrainedTensor& tensor, const float* gradient, double keep) {
    const int64_t rows = tensor.shape.rows, columns = tensor.shape.columns;
    float *row = tensor.floats(0), *column = tensor.floats(1);
    sums_.assign(columns, 0);
    for (int64_t i = 0; i < rows; ++i) {
      const float* g = gradient + i * columns;
      double sum = 0;
      for (int64_t j = 0; j < columns; ++j) {
        const double square = double(g[j]) * g[j] + eps_;
        sum += square;
        sums_[j] += square;
      }
      row[i] = float(keep * row[i] + (1 - keep) * sum / double(columns));
    }
    for (int64_t j = 0; j < columns; ++j) {
      column[j] = float(keep * column[j] + (1 - keep) * sums_[j] / double(rows));
    }
  }

  /// Makes the update of the gradient.
  void divide_by_roots(const TrainedTensor& tensor, float* gradient) {
    const int64_t rows = tensor.shape.rows, columns = tensor.shape.columns;
    const float *row = tensor.floats(0), *column = tensor.floats(1);
    const double mean = std::accumulate(row, row + rows, 0.0) / double(rows);
    roots_.resize(columns);
    for (int64_t j = 0; j < columns; ++j) roots_[j] = float(1 / std::sqrt(double(column[j])));
    for (int64_t i = 0; i < rows; ++i) {
      const float root = float(1 / std::sqrt(double(row[i]) / mean));
      float* g = gradient + i * columns;
      for (int64_t j = 0; j < columns; ++j) g[j] *= root * roots_[j];
    }
  }

  const double decay_rate_, eps_, clip_, floor_, weight_decay_;
  std::vector<double> sums_;
  std::vector<float> roots_;
};

}  // namespace

extern const OptimizerRow kAdaLomo;
const OptimizerRow kAdaLomo = {
    "adalomo",
    "lomo with a second moment of rows and columns, steps relative to the size of p: p -= lr "
    "rms(p) "
    "g / sqrt(v), hardly any state; steps are relative to a tensor, and a new B is zero: "
    "--rms-floor",
    {{"weight-decay"}, {"eps", "1e-30"}, {"decay-rate"}, {"update-clip"}, {"rms-floor"}},
    [](const Options& options) -> std::unique_ptr<Optimizer> {
      return std::make_unique<AdaLomo>(options);
    }};

}  // namespace toolkit
