// fixed16 where an instruction multiplies signed bytes and adds: NEON with dot products or int8
// matrix products. q = 256 hi + lo: the panel is multiplied with all hi and with all lo, and the
// two sums are joined.
//
// A row of q: 32 hi, 32 lo; with matrix products, in pairs of rows, eight of one row and eight of
// the other by turns, 64 hi, 64 lo. A panel of 16 columns: [8][16 columns][4] codes, with matrix
// products [4][16 columns][8].
#pragma once

#include "kernels/isa/fixed16.h"

namespace toolkit {
namespace TOOLKIT_ISA {

constexpr int kStep = kBlock;        // rows of the micro-kernel
constexpr int kVectorsTogether = 1;  // so that accumulators of hi, of lo and sums are in registers
#ifdef TOOLKIT_I8MM
constexpr int kRowsTogether = 2;
#else
constexpr int kRowsTogether = 1;
#endif
constexpr int64_t kPartBytes = 16 * kRowsTogether;  // of a panel from one vector to the next
static_assert(kGroup == 16 && kBlock % 2 == 0);

/// Bytes of the hi, or lo, of rows that lie together.
constexpr int kPlane = kQuantGroup * kRowsTogether;

/// Where the hi of elements 8i to 8i + 7 of a row are; the lo are kPlane further.
TOOLKIT_INLINE int place_of(int row, int i) {
  return row / kRowsTogether * 2 * kPlane + (i * kRowsTogether + row % kRowsTogether) * 8;
}

/// 256 hi + lo of one half of two vectors.
TOOLKIT_INLINE int16x8_t low_shorts(int8x16_t hi, int8x16_t lo) {
  const int8x16_t shifted = vzip1q_s8(vdupq_n_s8(0), hi);
  return vaddw_s8(vreinterpretq_s16_s8(shifted), vget_low_s8(lo));
}
TOOLKIT_INLINE int16x8_t high_shorts(int8x16_t hi, int8x16_t lo) {
  const int8x16_t shifted = vzip2q_s8(vdupq_n_s8(0), hi);
  return vaddw_high_s8(vreinterpretq_s16_s8(shifted), lo);
}

/// Stores a group of row `row` of a block.
TOOLKIT_INLINE void store_row(const int32_t* q, int row, int16_t* group) {
  auto* bytes = reinterpret_cast<int8_t*>(group);
  for (int i = 0; i < kQuantGroup; ++i) {
    const int at = place_of(row, i / 8) + i % 8;
    const int32_t hi = (q[i] + 128) >> 8;
    bytes[at] = static_cast<int8_t>(hi);
    bytes[at + kPlane] = static_cast<int8_t>(q[i] - hi * 256);
  }
}

/// Stores 32 factors that rows are multiplied with element by element.
TOOLKIT_INLINE void store_factors(const int32_t* factors, int16_t* out) {
  for (int i = 0; i < kQuantGroup; ++i) out[i] = static_cast<int16_t>(factors[i]);
}

/// Accumulators begin as the bits of floats of which adding a whole number to the bits makes
/// another: 1.5 * 2^31, whose last bit is worth 256, for hi and 1.5 * 2^23 for lo. Two additions
/// then do what a shift and a conversion would, on any vector unit and not on half of them.
alignas(16) constexpr int32_t kStart[2][4] = {{0x4f400000, 0x4f400000, 0x4f400000, 0x4f400000},
                                              {0x4b400000, 0x4b400000, 0x4b400000, 0x4b400000}};

/// Loaded anew, since a copy of a register would take a vector unit's time.
template <int kPlaneOf>
TOOLKIT_INLINE int32x4_t begun() {
  int32x4_t start;
  asm volatile("ldr %q0, %1" : "=w"(start) : "m"(kStart[kPlaneOf]));
  return start;
}

/// 256 hi + lo, rounded once: the difference is exact, a multiple of 256.
TOOLKIT_INLINE Floats joined(int32x4_t hi, int32x4_t lo) {
  return ((Floats)hi - splat(0x1.8p31f + 0x1.8p23f)) + (Floats)lo;
}

#ifdef TOOLKIT_I8MM
/// products[r][0] = row r of q times 4 columns of the panel.
template <int kRows, int kVectors>
TOOLKIT_INLINE void multiply_panel(const int16_t* q, const char* panel,
                                   Floats (&products)[kRows][kVectors]) {
  static_assert(kVectors == 1);
  constexpr int kPairs = (kRows + 1) / 2;
  const auto* bytes = reinterpret_cast<const int8_t*>(q);
  const auto* codes = reinterpret_cast<const int8_t*>(panel);
  int32x4_t hi[kPairs][2], lo[kPairs][2];  // of two rows and two columns
#pragma GCC unroll 3
  for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c) {
      hi[p][c] = begun<0>();
      lo[p][c] = begun<1>();
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const int8x16_t a = vld1q_s8(codes + i * 128), b = vld1q_s8(codes + i * 128 + 16);
#pragma GCC unroll 3
    for (int p = 0; p < kPairs; ++p) {
      const int8_t* from = bytes + p * 2 * kPlane + i * 16;
      const int8x16_t high = vld1q_s8(from), low = vld1q_s8(from + kPlane);
      hi[p][0] = vmmlaq_s32(hi[p][0], high, a);
      lo[p][0] = vmmlaq_s32(lo[p][0], low, a);
      hi[p][1] = vmmlaq_s32(hi[p][1], high, b);
      lo[p][1] = vmmlaq_s32(lo[p][1], low, b);
    }
  }
#pragma GCC unroll 3
  for (int p = 0; p < kPairs; ++p) {
    const auto a = (float64x2_t)joined(hi[p][0], lo[p][0]);
    const auto b = (float64x2_t)joined(hi[p][1], lo[p][1]);
    products[2 * p][0] = (Floats)vzip1q_f64(a, b);
    if (2 * p + 1 < kRows) products[2 * p + 1][0] = (Floats)vzip2q_f64(a, b);
  }
}
#else
/// sums[0, kCount) + four elements of as many rows, those of a lane, times the columns'.
template <int kLane, int kCount>
TOOLKIT_INLINE void add_bytes(int8x16_t columns, const int8x16_t* rows, int32x4_t* sums) {
#pragma GCC unroll 2
  for (int r = 0; r < kCount; ++r) sums[r] = vdotq_laneq_s32(sums[r], columns, rows[r], kLane);
}

/// hi[r] and lo[r] += 16 elements of kCount rows times those of the columns. Two rows are four
/// chains of sums, enough for cores that wait for each.
template <int kCount>
TOOLKIT_INLINE void add_rows(const int8_t* from, const int8x16_t* columns, int32x4_t* hi,
                             int32x4_t* lo) {
  int8x16_t high[kCount], low[kCount];
#pragma GCC unroll 2
  for (int r = 0; r < kCount; ++r) {
    high[r] = vld1q_s8(from + r * 2 * kPlane);
    low[r] = vld1q_s8(from + r * 2 * kPlane + kPlane);
  }
  add_bytes<0, kCount>(columns[0], high, hi);
  add_bytes<0, kCount>(columns[0], low, lo);
  add_bytes<1, kCount>(columns[1], high, hi);
  add_bytes<1, kCount>(columns[1], low, lo);
  add_bytes<2, kCount>(columns[2], high, hi);
  add_bytes<2, kCount>(columns[2], low, lo);
  add_bytes<3, kCount>(columns[3], high, hi);
  add_bytes<3, kCount>(columns[3], low, lo);
}

/// products[r][0] = row r of q times 4 columns of the panel.
template <int kRows, int kVectors>
TOOLKIT_INLINE void multiply_panel(const int16_t* q, const char* panel,
                                   Floats (&products)[kRows][kVectors]) {
  static_assert(kVectors == 1);
  const auto* bytes = reinterpret_cast<const int8_t*>(q);
  const auto* codes = reinterpret_cast<const int8_t*>(panel);
  int32x4_t hi[kRows], lo[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    hi[r] = begun<0>();
    lo[r] = begun<1>();
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const int8_t* at = codes + i * 256;
    const int8x16_t columns[4] = {vld1q_s8(at), vld1q_s8(at + 64), vld1q_s8(at + 128),
                                  vld1q_s8(at + 192)};
    constexpr int kEven = kRows / 2 * 2;
#pragma GCC unroll 4
    for (int r = 0; r < kEven; r += 2) {
      add_rows<2>(bytes + r * 2 * kPlane + i * 16, columns, hi + r, lo + r);
    }
    if constexpr (kEven < kRows) {
      add_rows<1>(bytes + kEven * 2 * kPlane + i * 16, columns, hi + kEven, lo + kEven);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) products[r][0] = joined(hi[r], lo[r]);
}
#endif

/// out = q times ratio / 2^15, rounded, of `rows` rows, and of one more where they lie in pairs.
TOOLKIT_INLINE void scale_rows(const int16_t* q, const int16_t* ratio, int64_t rows, int16_t* out) {
  const int64_t together = divide_up(rows, kRowsTogether);
  const auto* in = reinterpret_cast<const int8_t*>(q);
  auto* to = reinterpret_cast<int8_t*>(out);
#pragma GCC unroll 4
  for (int i = 0; i < kPlane; i += 16) {
    // 16 bytes are 16 neighbours, or eight of two rows.
    const int16x8_t first = vld1q_s16(ratio + i / kRowsTogether);
    const int16x8_t second = kRowsTogether == 2 ? first : vld1q_s16(ratio + i + 8);
    for (int64_t p = 0; p < together; ++p) {
      const int64_t at = p * 2 * kPlane + i;
      const int8x16_t hi = vld1q_s8(in + at), lo = vld1q_s8(in + at + kPlane);
      const int16x8_t a = vqrdmulhq_s16(low_shorts(hi, lo), first);
      const int16x8_t b = vqrdmulhq_s16(high_shorts(hi, lo), second);
      vst1q_s8(to + at, vrshrn_high_n_s16(vrshrn_n_s16(a, 8), b, 8));
      vst1q_s8(to + at + kPlane, vmovn_high_s16(vmovn_s16(a), b));
    }
  }
}

/// Elements 8i to 8i + 7 of row `row`.
TOOLKIT_INLINE int16x8_t eight_of(const int16_t* q, int row, int i) {
  const auto* hi = reinterpret_cast<const int8_t*>(q) + place_of(row, i);
  return vaddw_s8(vshlq_n_s16(vmovl_s8(vld1_s8(hi)), 8), vld1_s8(hi + kPlane));
}

/// parts[0, 16) += factor * (elements of row r times `ratio`, summed by pairs (n, n + 8)).
TOOLKIT_INLINE void add_row(const int16_t* q, int r, const int16_t* ratio, float factor,
                            Floats (&parts)[kParts]) {
  const Floats all = splat(factor);
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const int16x8_t a = eight_of(q, r, 2 * half), b = eight_of(q, r, 2 * half + 1);
    const int16x8_t x = vld1q_s16(ratio + half * 16), y = vld1q_s16(ratio + half * 16 + 8);
    const int32x4_t low =
        vmlal_s16(vmull_s16(vget_low_s16(a), vget_low_s16(x)), vget_low_s16(b), vget_low_s16(y));
    const int32x4_t high = vmlal_high_s16(vmull_high_s16(a, x), b, y);
    Floats* at = parts + half * 2;
    at[0] = fused(all, __builtin_convertvector((Ints)low, Floats), at[0]);
    at[1] = fused(all, __builtin_convertvector((Ints)high, Floats), at[1]);
  }
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
