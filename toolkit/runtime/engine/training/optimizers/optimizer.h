// Updates of adapter tensors, exactly the formulas of torch.optim.SGD and torch.optim.AdamW (single
// tensor).
//
// SGD:   g += weight_decay * p;  m = momentum * m + g (m = g at step 1);  p -= lr * m
// AdamW: p *= 1 - lr * weight_decay;  m += (1 - beta1) (g - m);  v = beta2 * v + (1 - beta2) g²;
//        p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
// Scalars are computed in double, tensors in fp32. A new optimizer is one class and one row in
// make_optimizer().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "engine/memory/memory.h"

namespace toolkit {

struct OptimizerSettings {
  std::string name = "adamw";
  double weight_decay = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, momentum = 0;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // Updates `count` floats that start at `offset` of all adapters, at optimizer step `step`
  // (1-based). The gradient may be overwritten.
  virtual void update(float* values, float* gradient, size_t offset, size_t count, double lr,
                      int64_t step) = 0;
  // Arrays of all adapters' size that a resumed run needs, in a fixed order, and their names.
  virtual int state_count() const = 0;
  virtual const char* state_name(int index) const = 0;
  virtual Buffer& state(int index) = 0;
};

// `total` is the number of floats of all adapters. Throws UsageError for an unknown name.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerSettings& settings, size_t total);

// Sum of squares in double: the same bits each time and with any number of threads.
double sum_of_squares(const float* values, size_t count);

// Factor of torch.nn.utils.clip_grad_norm_: min(1, max_norm / (norm + 1e-6)).
double clip_factor(double norm, double max_norm);

}  // namespace toolkit
