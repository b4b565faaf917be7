// fixed16 where an instruction multiplies signed bytes and adds: NEON with dot products or int8
// matrix products. q = 256 hi + lo: the panel is multiplied with all hi, the sums are shifted, and
// it is multiplied with all lo.
//
// A row of q: 32 hi, 32 lo; with matrix products, in pairs of rows, eight of one row and eight of
// the other by turns, 64 hi, 64 lo. A panel of 16 columns: [8][16 columns][4] codes, with matrix
// products [4][16 columns][8].
#pragma once

#include "kernels/isa/fixed16.h"

namespace toolkit {
namespace TOOLKIT_ISA {

#ifdef TOOLKIT_I8MM
constexpr int kStep = kBlock;  // rows of the micro-kernel, sums go to the stack
constexpr int kRowsTogether = 2;
#else
constexpr int kStep = kBlock / 2;  // sums and accumulators in registers
constexpr int kRowsTogether = 1;
#endif
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

#ifdef TOOLKIT_I8MM
/// sums[r][v] = row r of q times the panel.
template <int kRows, int kVectors>
TOOLKIT_INLINE void multiply_panel(const int16_t* q, const char* panel,
                                   Ints (&sums)[kRows][kVectors]) {
  constexpr int kPairs = (kRows + 1) / 2, kColumns = 2 * kVectors;
  const auto* bytes = reinterpret_cast<const int8_t*>(q);
  const auto* codes = reinterpret_cast<const int8_t*>(panel);
  int32x4_t products[kPairs][kColumns];  // of two rows and two columns
#pragma GCC unroll 3
  for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) products[p][c] = vdupq_n_s32(0);
  }
#pragma GCC unroll 2
  for (int plane = 0; plane < 2; ++plane) {
    for (int i = 0; i < 4; ++i) {
      int8x16_t rows[kPairs];
#pragma GCC unroll 3
      for (int p = 0; p < kPairs; ++p) {
        rows[p] = vld1q_s8(bytes + p * 2 * kPlane + plane * kPlane + i * 16);
      }
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) {
        const int8x16_t column = vld1q_s8(codes + (i * kColumns + c) * 16);
#pragma GCC unroll 3
        for (int p = 0; p < kPairs; ++p) {
          products[p][c] = vmmlaq_s32(products[p][c], rows[p], column);
        }
      }
    }
    if (plane == 1) break;
#pragma GCC unroll 3
    for (int p = 0; p < kPairs; ++p) {
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) products[p][c] = vshlq_n_s32(products[p][c], 8);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const int64x2_t a = vreinterpretq_s64_s32(products[r / 2][2 * v]);
      const int64x2_t b = vreinterpretq_s64_s32(products[r / 2][2 * v + 1]);
      sums[r][v] = (Ints)(r % 2 == 0 ? vzip1q_s64(a, b) : vzip2q_s64(a, b));
    }
  }
}
#else
/// sum + four bytes of `row`, those of a lane, times four of every column.
template <int kLane>
TOOLKIT_INLINE Ints add_bytes(Ints sum, int8x16_t columns, int8x16_t row) {
  return (Ints)vdotq_laneq_s32((int32x4_t)sum, columns, row, kLane);
}

/// sums[r][v] += four elements of every row times the panel's.
template <int kLane, int kRows, int kVectors>
TOOLKIT_INLINE void add_elements(const int8x16_t (&rows)[kRows], const int8_t* codes,
                                 Ints (&sums)[kRows][kVectors]) {
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const int8x16_t columns = vld1q_s8(codes + (kLane * kVectors + v) * 16);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sums[r][v] = add_bytes<kLane>(sums[r][v], columns, rows[r]);
  }
}

/// sums[r][v] = row r of q times the panel.
template <int kRows, int kVectors>
TOOLKIT_INLINE void multiply_panel(const int16_t* q, const char* panel,
                                   Ints (&sums)[kRows][kVectors]) {
  const auto* bytes = reinterpret_cast<const int8_t*>(q);
  const auto* codes = reinterpret_cast<const int8_t*>(panel);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v] = Ints{};
  }
#pragma GCC unroll 2
  for (int plane = 0; plane < 2; ++plane) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      int8x16_t rows[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        rows[r] = vld1q_s8(bytes + r * 2 * kPlane + plane * kPlane + i * 16);
      }
      const int8_t* from = codes + i * 4 * kVectors * 16;
      add_elements<0>(rows, from, sums);
      add_elements<1>(rows, from, sums);
      add_elements<2>(rows, from, sums);
      add_elements<3>(rows, from, sums);
    }
    if (plane == 1) break;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[r][v] = sums[r][v] << 8;
    }
  }
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
