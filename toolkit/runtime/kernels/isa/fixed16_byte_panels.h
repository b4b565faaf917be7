// Panels of 16 columns of signed bytes (see fixed16_bytes.h), four elements of four columns at a
// time: a quad.
#pragma once

#include "kernels/isa/fixed16_bytes.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

/// Stores quads of columns 4v to 4v + 3: elements 8i to 8i + 3 and the next four.
TOOLKIT_INLINE void store_quads(char* out, int64_t i, int64_t v, int8x16_t first,
                                int8x16_t second) {
  auto* to = reinterpret_cast<int8_t*>(out) + i * 128;
#ifdef TOOLKIT_I8MM
  const int32x4_t a = vreinterpretq_s32_s8(first), b = vreinterpretq_s32_s8(second);
  vst1q_s8(to + v * 32, vreinterpretq_s8_s32(vzip1q_s32(a, b)));
  vst1q_s8(to + v * 32 + 16, vreinterpretq_s8_s32(vzip2q_s32(a, b)));
#else
  vst1q_s8(to + v * 16, first);
  vst1q_s8(to + 64 + v * 16, second);
#endif
}

/// Codes of int4 in the low or high halves of bytes, less 8.
TOOLKIT_INLINE int8x16_t low_codes(uint8x16_t bytes) {
  return vsubq_s8(vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))), vdupq_n_s8(8));
}
TOOLKIT_INLINE int8x16_t high_codes(uint8x16_t bytes) {
  return vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4)), vdupq_n_s8(8));
}

/// Of four rows a, b, c, d of 8 bytes: a0 b0 c0 d0 a1 .. d3, and a4 .. d7.
struct Interleaved {
  uint8x16_t low, high;

  TOOLKIT_INLINE Interleaved(uint8x16_t ab, uint8x16_t cd) {
    const uint8x16_t ac = vzip1q_u8(ab, cd), bd = vzip2q_u8(ab, cd);
    low = vzip1q_u8(ac, bd);
    high = vzip2q_u8(ac, bd);
  }
};

/// Features [0, 32) of a panel of 16 columns.
TOOLKIT_INLINE void rows_panel4(const uint8_t* codes, int64_t, int64_t, char* out) {
  for (int64_t i = 0; i < 4; ++i) {
    const uint8_t* from = codes + i * 64;
    const Interleaved a(vld1q_u8(from), vld1q_u8(from + 16));
    const Interleaved b(vld1q_u8(from + 32), vld1q_u8(from + 48));
    store_quads(out, i, 0, low_codes(a.low), low_codes(b.low));
    store_quads(out, i, 1, low_codes(a.high), low_codes(b.high));
    store_quads(out, i, 2, high_codes(a.low), high_codes(b.low));
    store_quads(out, i, 3, high_codes(a.high), high_codes(b.high));
  }
}

/// Quads of all columns from four features of 16 bytes.
TOOLKIT_INLINE void quads8(const uint8_t* from, int8x16_t* quads) {
  const uint8x16_t a = vld1q_u8(from), b = vld1q_u8(from + 16), c = vld1q_u8(from + 32),
                   d = vld1q_u8(from + 48);
  const uint8x16_t ac = vzip1q_u8(a, c), bd = vzip1q_u8(b, d);
  const uint8x16_t ac2 = vzip2q_u8(a, c), bd2 = vzip2q_u8(b, d);
  quads[0] = vreinterpretq_s8_u8(vzip1q_u8(ac, bd));
  quads[1] = vreinterpretq_s8_u8(vzip2q_u8(ac, bd));
  quads[2] = vreinterpretq_s8_u8(vzip1q_u8(ac2, bd2));
  quads[3] = vreinterpretq_s8_u8(vzip2q_u8(ac2, bd2));
}

TOOLKIT_INLINE void rows_panel8(const uint8_t* codes, int64_t, int64_t, char* out) {
  for (int64_t i = 0; i < 4; ++i) {
    int8x16_t first[4], second[4];
    quads8(codes + i * 128, first);
    quads8(codes + i * 128 + 64, second);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) store_quads(out, i, v, first[v], second[v]);
  }
}

/// Rows of half `half` of a group: the codes of a panel for 16 features. Four bytes of a feature
/// hold rows j to j + 3, and those 8 further: quads as they are.
TOOLKIT_INLINE void columns_half_panel4(const uint8_t* codes, int64_t half, int64_t, char* out) {
  for (int64_t v = 0; v < 4; ++v) {
    const uint8_t* from = codes + v * 32;
    Ints even, odd;
    deinterleave(load<Ints>(from), load<Ints>(from + 16), &even, &odd);
    const uint8x16_t a = (uint8x16_t)even, b = (uint8x16_t)odd;
    store_quads(out, half * 2, v, low_codes(a), low_codes(b));
    store_quads(out, half * 2 + 1, v, high_codes(a), high_codes(b));
  }
}

TOOLKIT_INLINE void columns_half_panel8(const uint8_t* codes, int64_t half, int64_t, char* out) {
  for (int64_t v = 0; v < 4; ++v) {
    const uint8_t* from = codes + v * 64;
    Ints even[2], odd[2], quads[4];
    for (int i = 0; i < 2; ++i) {
      const uint8_t* part = from + i * 32;
      deinterleave(load<Ints>(part), load<Ints>(part + 16), &even[i], &odd[i]);
    }
    deinterleave(even[0], even[1], &quads[0], &quads[2]);
    deinterleave(odd[0], odd[1], &quads[1], &quads[3]);
    store_quads(out, half * 2, v, (int8x16_t)quads[0], (int8x16_t)quads[1]);
    store_quads(out, half * 2 + 1, v, (int8x16_t)quads[2], (int8x16_t)quads[3]);
  }
}

TOOLKIT_INLINE void clear_half_panel(int64_t half, int64_t, char* out) {
  __builtin_memset(out + half * 256, 0, 256);
}

}  // namespace
}  // namespace TOOLKIT_ISA
}  // namespace toolkit
