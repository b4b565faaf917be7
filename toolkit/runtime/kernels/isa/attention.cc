// Rows of scores in the forward and the backward of attention.
#include <cmath>

#include "kernels/isa/rows.h"
#include "kernels/isa/softmax.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

/// row[lo, hi) becomes exp(row - maximum), the rest of row[0, count) zero; returns the sum.
float masked_exponentials(float* row, int64_t lo, int64_t hi, int64_t count, float maximum) {
  clear_row(row, lo);
  const float total = exponentials(row + lo, hi - lo, maximum);
  clear_row(row + hi, count - hi);
  return total;
}

}  // namespace

void attention_strip(float* row, int64_t lo, int64_t hi, int64_t count, RunningSoftmax* running,
                     float* out, int64_t size) {
  const float maximum = row_maximum(row + lo, hi - lo, running->maximum);
  const float correction = std::exp(running->maximum - maximum);
  // One statement, so that it is one fused operation where there is one.
  const float total = masked_exponentials(row, lo, hi, count, maximum);
  running->total = running->total * correction + total;
  running->maximum = maximum;
  if (out != nullptr && correction != 1.0f) scale_row(out, size, correction);
}

void attention_finish(const RunningSoftmax& running, float* out, int64_t size) {
  scale_row(out, size, 1.0f / running.total);
}

void masked_softmax(float* row, int64_t lo, int64_t hi, int64_t count) {
  const float best = row_maximum(row + lo, hi - lo, kNegative);
  const float total = masked_exponentials(row, lo, hi, count, best);
  scale_row(row + lo, hi - lo, 1.0f / total);
}

void query_gradient(const float* probs, int64_t lo, int64_t hi, int64_t count, float* products) {
  const float best = row_maximum(probs + lo, hi - lo, 0.0f);
  int64_t likely = lo;
  while (likely + 1 < hi && probs[likely] != best) ++likely;
  const float pivot = products[likely];
  Floats weighted{}, total{};
  for_vectors(lo, hi, [&](int64_t i, int n) {
    const Floats p = load_part(probs + i, n);
    total += p;
    weighted += p * (load_part(products + i, n) - pivot);
  });
  const float delta = sum(weighted) / sum(total);
  clear_row(products, lo);
  for_vectors(lo, hi, [&](int64_t i, int n) {
    const Floats difference = load_part(products + i, n) - pivot;
    store_part(products + i, load_part(probs + i, n) * (difference - delta), n);
  });
  clear_row(products + hi, count - hi);
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
