// Groups of a row as signed bytes: q = .. + 2^16 q[2] + 2^8 q[1] + q[0].
#pragma once

#include "kernels/isa/row_groups.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// `Starts::kFactors` times the sums of bytes are what sums of products begin with.
template <int kCount, class Starts>
struct ByteGroup {
  static constexpr int kBytes = kCount;
  static constexpr int kStarts = sizeof(Starts::kFactors) / sizeof(int32_t);

  int8_t q[kBytes][kQuantGroup];
  int32_t start[kStarts][kBytes];
  float scale, sum;

  void set(const Group& group) {
    int32_t rest[kQuantGroup];
    for (int i = 0; i < kQuantGroup; ++i) rest[i] = group.q[i];
    for (int b = 0; b < kBytes; ++b) {
      int32_t all = 0;
      for (int i = 0; i < kQuantGroup; ++i) {
        const int32_t next = (rest[i] + 128) >> 8, byte = rest[i] - next * 256;
        q[b][i] = static_cast<int8_t>(byte);
        all += byte;
        rest[i] = next;
      }
      for (int s = 0; s < kStarts; ++s) start[s][b] = Starts::kFactors[s] * all;
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
