// What the zeroth-order methods share: the slope of the loss along random directions from two
// losses each, g = (L(p + eps z) - L(p - eps z)) / (2 eps), and the update p -= lr mean(g z).
//
// Both signs and all directions and batches of a step are rows of forward passes that read the
// weights once; of a layer's adapter two perturbed copies exist for every direction that is being
// computed, made anew for the next. No gradients, checkpoints or states are kept, and z is drawn
// again for the update.
#pragma once

#include <memory>
#include <vector>

#include "engine/training/directions.h"
#include "engine/training/estimates.h"
#include "engine/training/methods/method.h"

namespace toolkit {

class ZerothOrder : public StepMethod {
 public:
  // `queries` directions a step, of B alone or of all; `sparsity` is what the list of estimates
  // says of limits that directions_ is given.
  ZerothOrder(const MethodParts& parts, int64_t queries, bool b_alone, double sparsity = 0);

  void begin(int64_t step, const Origin& origin) override;
  StepResult step(const std::vector<int64_t>& samples, StepSize size) override;
  void rest() override { states_.release(); }
  void saving() override { estimates_.save(); }

 protected:
  const MethodParts parts_;
  const AdapterLayout& layout_;
  Directions directions_;

 private:
  // A pair of rows: a batch of samples along one direction, both signs.
  struct Pair {
    int64_t query, batch;
  };
  struct Sums {
    double plus = 0, minus = 0;
  };
  std::vector<Sums> losses(const std::vector<int64_t>& samples, int64_t step);
  const float* values_of(int64_t layer, Query query, bool plus);
  void update(int64_t layer, const std::vector<double>& slopes, StepSize size);

  const double sparsity_;
  const int64_t queries_, batch_size_, pairs_;
  Estimates estimates_;
  HiddenStates states_;
  // Of as many queries as may be computed together, each in the place that its number has.
  struct Perturbed {
    int64_t layer = -1, query = -1;
  };
  std::vector<Perturbed> perturbed_;
  Buffer copies_;  // [as many, 2, largest layer]
};

}  // namespace toolkit
