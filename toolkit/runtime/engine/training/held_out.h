// What the losses on held-out data have shown in the course of a run.
#pragma once

#include <cstdint>

namespace toolkit {

struct HeldOut {
  int64_t step = -1;       // of the last evaluation; -1: there was none
  int64_t best_step = -1;  // of the lowest loss
  double best_loss = 0;    // mean per token, in nats
  int64_t since_best = 0;  // evaluations in a row that were not below it

  // Takes the loss of a step and returns whether it is the lowest so far.
  bool add(int64_t at, double loss) {
    step = at;
    const bool best = best_step < 0 || loss < best_loss;
    since_best = best ? 0 : since_best + 1;
    if (best) best_step = at, best_loss = loss;
    return best;
  }
};

}  // namespace toolkit
