// The row operations of an online softmax, shared by attention and the loss head.
#pragma once

#include "kernels/isa/simd.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// The largest of `start` and row[0, count). NaN is passed over here; `exponentials` keeps it.
inline float row_maximum(const float* row, int64_t count, float start) {
  Floats best = splat(start);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) best = maximum(load(row + i), best);
  float result = largest(best);
  for (; i < count; ++i) result = row[i] > result ? row[i] : result;
  return result;
}

/// row[0, count) becomes exp(row - maximum); returns the sum. With NaN or infinity in the row the
/// sum is not finite.
inline float exponentials(float* row, int64_t count, float maximum) {
  Floats total{};
  float rest = 0;
  for_vectors(0, count, [&](int64_t i, int n) {
    const Floats e = exp(load_part(row + i, n) - maximum);
    store_part(row + i, e, n);
    if (n == kLanes) {
      total += e;
    } else {
      for (int j = 0; j < n; ++j) rest += e[j];
    }
  });
  return sum(total) + rest;
}

inline void clear_row(float* row, int64_t count) {
  for (int64_t i = 0; i < count; ++i) row[i] = 0;
}

inline void scale_row(float* row, int64_t count, float factor) {
  for_vectors(0, count,
              [&](int64_t i, int n) { store_part(row + i, load_part(row + i, n) * factor, n); });
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
