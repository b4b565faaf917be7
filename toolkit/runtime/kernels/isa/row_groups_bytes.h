// Groups of a row as signed bytes: q = .. + 2^16 q[2] + 2^8 q[1] + q[0].
#pragma once

#include "kernels/isa/row_groups.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// The lowest byte of every lane.
TOOLKIT_INLINE void store_low_bytes(int8_t* out, Ints v) {
#if TOOLKIT_LANES == 16
  store(out, _mm512_cvtepi32_epi8((__m512i)v));
#else
  for (int lane = 0; lane < kLanes; ++lane) out[lane] = static_cast<int8_t>(v[lane]);
#endif
}

/// `Starts::kFactors` times the sums of bytes are what sums of products begin with.
template <int kCount, class Starts>
struct ByteGroup {
  static constexpr int kBytes = kCount;
  static constexpr int kStarts = sizeof(Starts::kFactors) / sizeof(int32_t);

  int8_t q[kBytes][kQuantGroup];
  int32_t start[kStarts][kBytes];
  float scale, sum;

  void set(const Group& group) {
    constexpr int kVectors = kQuantGroup / kLanes;
    Ints rest[kVectors];
    for (int i = 0; i < kVectors; ++i) rest[i] = load<Ints>(group.q + i * kLanes);
    for (int b = 0; b < kBytes; ++b) {
      Ints all{};
      for (int i = 0; i < kVectors; ++i) {
        const Ints next = (rest[i] + 128) >> 8, bytes = rest[i] - next * 256;
        store_low_bytes(q[b] + i * kLanes, bytes);
        all += bytes;
        rest[i] = next;
      }
      const int32_t sum_of_bytes = lane_sum(all);
      for (int s = 0; s < kStarts; ++s) start[s][b] = Starts::kFactors[s] * sum_of_bytes;
    }
    scale = group.scale;
    sum = static_cast<float>(group.sum);
  }
};

TOOLKIT_INLINE Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }

/// 2^16 high + low, rounded once: both are whole numbers of floats, or nearly (int8).
TOOLKIT_INLINE Floats to_floats(Ints high, Ints low) {
  return fused(to_floats(high), splat(65536.0f), to_floats(low));
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
