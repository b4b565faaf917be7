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

TOOLKIT_INLINE int32_t lane_sum(Ints v) {
  int32_t lanes[kLanes], total = 0;
  store(lanes, v);
  for (const int32_t lane : lanes) total += lane;
  return total;
}

/// scale * x[0, count), zeros beyond, with |q| <= limit.
inline void quantize(const float* x, int64_t count, float scale, float limit, Group* group) {
  constexpr int32_t kInfinity = 0x7f800000;
  // A scale has to have an inverse; what is less is rounded to what floats have below 2^-125.
  const float least = limit > 0x1p15f ? 0x1p-102f : 0x1p-110f;
  alignas(64) float values[kQuantGroup];
  for (int64_t i = 0; i < count; ++i) values[i] = x[i] * scale;
  for (int64_t i = count; i < kQuantGroup; ++i) values[i] = 0;
  int32_t bits = 0;
  for (const float value : values) {
    int32_t magnitude;
    __builtin_memcpy(&magnitude, &value, sizeof(magnitude));
    magnitude &= 0x7fffffff;
    bits = bits > magnitude ? bits : magnitude;
  }
  group->sum = 0;
  if (bits >= kInfinity) {
    for (int32_t& q : group->q) q = 0;
    group->scale = __builtin_nanf("");
    return;
  }
  float largest;
  __builtin_memcpy(&largest, &bits, sizeof(largest));
  largest = largest > least ? largest : least;
  const Floats inverse = splat(limit / largest);
  Ints sums{};
  for (int64_t i = 0; i < kQuantGroup; i += kLanes) {
    const Ints q = nearest(load(values + i) * inverse);
    store(group->q + i, q);
    sums += q;
  }
  group->sum = lane_sum(sums);
  group->scale = largest / limit;
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
