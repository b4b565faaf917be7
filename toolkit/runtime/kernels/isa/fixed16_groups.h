// Groups of 32 floats as whole numbers with one scale (see fixed16.h).
#pragma once

#include "kernels/isa/fixed16.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// What a group is written as: scale * q, and the sum of all q.
struct Group {
  alignas(64) int32_t q[kQuantGroup];
  int32_t sum;
  float scale;
};

typedef int32_t Ints4 __attribute__((vector_size(16)));

/// op of all lanes, halves with halves.
template <class Op>
TOOLKIT_INLINE int32_t of_lanes(Ints v, Op op) {
#if TOOLKIT_LANES == 16
  const auto half = op(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                       __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
#else
  const Ints half = v;
#endif
#if TOOLKIT_LANES >= 8
  Ints4 four = op(__builtin_shufflevector(half, half, 0, 1, 2, 3),
                  __builtin_shufflevector(half, half, 4, 5, 6, 7));
#else
  Ints4 four = half;
#endif
  four = op(four, __builtin_shufflevector(four, four, 2, 3, 0, 1));
  return op(four, __builtin_shufflevector(four, four, 1, 0, 3, 2))[0];
}

TOOLKIT_INLINE int32_t lane_sum(Ints v) {
  return of_lanes(v, [](auto a, auto b) { return a + b; });
}

/// scale * x[0, 32) with |q| <= limit.
TOOLKIT_INLINE void quantize_whole(const float* x, float scale, float limit, Group* group) {
  constexpr int kVectors = kQuantGroup / kLanes;
  constexpr int32_t kInfinity = 0x7f800000;
  // A scale has to have an inverse; what is less is rounded to what floats have below 2^-125.
  const float least = limit > 0x1p15f ? 0x1p-102f : 0x1p-110f;
  const auto larger = [](auto a, auto b) { return a > b ? a : b; };
  Floats values[kVectors];
  Ints magnitudes{};
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    values[i] = load(x + i * kLanes) * scale;
    magnitudes = larger(magnitudes, (Ints)values[i] & 0x7fffffff);
  }
  const int32_t bits = of_lanes(magnitudes, larger);
  if (__builtin_expect(bits >= kInfinity, false)) {
    for (int32_t& q : group->q) q = 0;
    group->sum = 0;
    group->scale = __builtin_nanf("");
    return;
  }
  float largest;
  __builtin_memcpy(&largest, &bits, sizeof(largest));
  largest = largest > least ? largest : least;
  const Floats inverse = splat(limit / largest);
  Ints sums{};
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    const Ints q = nearest(values[i] * inverse);
    store(group->q + i * kLanes, q);
    sums += q;
  }
  group->sum = lane_sum(sums);
  group->scale = largest / limit;
}

/// The same of x[0, count), zeros beyond.
TOOLKIT_INLINE void quantize(const float* x, int64_t count, float scale, float limit,
                             Group* group) {
  if (count == kQuantGroup) return quantize_whole(x, scale, limit, group);
  float padded[kQuantGroup] = {};
  for (int64_t i = 0; i < count; ++i) padded[i] = x[i];
  quantize_whole(padded, scale, limit, group);
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
