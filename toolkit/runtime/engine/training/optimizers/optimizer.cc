#include "engine/training/optimizers/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/error.h"
#include "kernels/parallel.h"

namespace toolkit {
namespace {

class Sgd : public Optimizer {
 public:
  Sgd(const OptimizerSettings& settings, size_t total) : settings_(settings) {
    if (settings.momentum != 0) {
      momentum_ = Buffer(total * sizeof(float), Category::optimizer, "toolkit optimizer");
    }
  }

  void update(float* values, float* gradient, size_t offset, size_t count, double lr,
              int64_t step) override {
    const float decay = float(settings_.weight_decay), rate = float(-lr);
    const float momentum = float(settings_.momentum);
    float* moments = momentum != 0 ? momentum_.floats() + offset : nullptr;
    parallel(int64_t(count), [&](int64_t begin, int64_t end, int) {
      float *v = values + begin, *g = gradient + begin;
      const int64_t n = end - begin;
      if (decay != 0) {
        for (int64_t i = 0; i < n; ++i) g[i] += decay * v[i];
      }
      if (moments != nullptr) {
        float* m = moments + begin;
        if (step == 1) {
          std::copy(g, g + n, m);
        } else {
          for (int64_t i = 0; i < n; ++i) m[i] = m[i] * momentum + g[i];
        }
        g = m;
      }
      for (int64_t i = 0; i < n; ++i) v[i] += rate * g[i];
    });
  }

  int state_count() const override { return settings_.momentum != 0 ? 1 : 0; }
  const char* state_name(int) const override { return "momentum"; }
  Buffer& state(int) override { return momentum_; }

 private:
  OptimizerSettings settings_;
  Buffer momentum_;
};

class AdamW : public Optimizer {
 public:
  AdamW(const OptimizerSettings& settings, size_t total) : settings_(settings) {
    for (Buffer& moment : moments_) {
      moment = Buffer(total * sizeof(float), Category::optimizer, "toolkit optimizer");
    }
  }

  void update(float* values, float* gradient, size_t offset, size_t count, double lr,
              int64_t step) override {
    const double beta1 = settings_.beta1, beta2 = settings_.beta2;
    const double correction1 = 1 - std::pow(beta1, double(step));
    const float root2 = float(std::sqrt(1 - std::pow(beta2, double(step))));
    const float keep = float(1 - lr * settings_.weight_decay), size = float(-(lr / correction1));
    const float lerp = float(1 - beta1), decay2 = float(beta2), gain2 = float(1 - beta2);
    const float eps = float(settings_.eps);
    float* m = moments_[0].floats() + offset;
    float* v = moments_[1].floats() + offset;
    parallel(int64_t(count), [=](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const float g = gradient[i];
        m[i] += lerp * (g - m[i]);
        v[i] = v[i] * decay2 + gain2 * g * g;
        const float denominator = std::sqrt(v[i]) / root2 + eps;
        values[i] = values[i] * keep + size * (m[i] / denominator);
      }
    });
  }

  int state_count() const override { return 2; }
  const char* state_name(int index) const override {
    return index == 0 ? "first_moment" : "second_moment";
  }
  Buffer& state(int index) override { return moments_[index]; }

 private:
  OptimizerSettings settings_;
  Buffer moments_[2];
};

}  // namespace

std::unique_ptr<Optimizer> make_optimizer(const OptimizerSettings& settings, size_t total) {
  if (settings.name == "sgd") return std::make_unique<Sgd>(settings, total);
  if (settings.name == "adamw") return std::make_unique<AdamW>(settings, total);
  fail_usage("unknown optimizer '%s'. Choose sgd or adamw", settings.name.c_str());
}

double sum_of_squares(const float* values, size_t count) {
  // Slices and several sums in each, the same whatever the number of threads.
  constexpr int64_t kSlices = 64, kSums = 8;
  double slices[kSlices] = {};
  parallel(kSlices, [&](int64_t first, int64_t last, int) {
    for (int64_t slice = first; slice < last; ++slice) {
      size_t i = count * slice / kSlices;
      const size_t end = count * (slice + 1) / kSlices;
      double sums[kSums] = {};
      for (; i + kSums <= end; i += kSums) {
        for (size_t j = 0; j < kSums; ++j) sums[j] += double(values[i + j]) * double(values[i + j]);
      }
      for (; i < end; ++i) sums[0] += double(values[i]) * double(values[i]);
      slices[slice] = std::accumulate(sums, sums + kSums, 0.0);
    }
  });
  return std::accumulate(slices, slices + kSlices, 0.0);
}

double clip_factor(double norm, double max_norm) { return std::min(1.0, max_norm / (norm + 1e-6)); }

}  // namespace toolkit
