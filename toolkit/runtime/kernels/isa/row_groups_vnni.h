// Groups of a row as bytes, for the instruction that adds four products of an unsigned and a signed
// byte to each of 16 lanes.
#pragma once

#include "kernels/isa/row_groups_bytes.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// 8 x 8 bytes transposed: the eight codes of a row of W in a lane of 64 bits.
TOOLKIT_INLINE Ints by_rows4(const uint8_t* codes) {
  // In every 128 bits the bytes of two features by turns; then the pairs of a row side by side.
  const __m512i pairs =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
  const __m512i rows = _mm512_set_epi16(31, 23, 15, 7, 30, 22, 14, 6, 29, 21, 13, 5, 28, 20, 12, 4,
                                        27, 19, 11, 3, 26, 18, 10, 2, 25, 17, 9, 1, 24, 16, 8, 0);
  const __m512i lanes = load<__m512i>(codes);
  return (Ints)_mm512_permutexvar_epi16(rows, _mm512_shuffle_epi8(lanes, pairs));
}

/// 4 x 16 bytes transposed: the four codes of a row of W in a lane of 32 bits.
TOOLKIT_INLINE Ints by_rows8(const uint8_t* codes) {
  const __m512i bytes =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m512i lanes = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i of_rows = _mm512_permutexvar_epi32(lanes, load<__m512i>(codes));
  return (Ints)_mm512_shuffle_epi8(of_rows, bytes);
}

/// sum + four unsigned bytes of every lane times four signed ones.
TOOLKIT_INLINE Ints add_fours(Ints sum, Ints codes, Ints q) {
  return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)codes, (__m512i)q);
}

/// Sums begin with what makes codes centred: those of whole bytes of int4, in two lanes a row; of
/// their high halves, 16 times what they are; of int8, whose first bit is turned.
struct VnniStarts {
  static constexpr int32_t kFactors[] = {-68, -64, -128};
};

template <int kCount>
struct VnniGroup : ByteGroup<kCount, VnniStarts> {
  using ByteGroup<kCount, VnniStarts>::kBytes;
  using ByteGroup<kCount, VnniStarts>::q;
  using ByteGroup<kCount, VnniStarts>::start;

  static constexpr int kTogether = kCount == 2 ? 4 : 2;  // rows whose sums are in registers

  template <int kRows>
  static TOOLKIT_INLINE void times4(const VnniGroup* const (&rows)[kRows], const uint8_t* codes,
                                    Column (&products)[kRows]) {
    Ints whole[kRows][kBytes], high[kRows][kBytes];  // with bytes as they are; with high halves
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      begin(rows[r]->start[0], whole[r]);
      begin(rows[r]->start[1], high[r]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kQuantGroup; i += 8) {
      const Ints both = by_rows4(codes + i * 8);
      const Ints of_high = both & static_cast<int32_t>(0xf0f0f0f0);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
        for (int b = 0; b < kBytes; ++b) {
          const Ints x = (Ints)_mm512_set1_epi64(rows[r]->template at<int64_t>(b, i));
          whole[r][b] = add_fours(whole[r][b], both, x);
          high[r][b] = add_fours(high[r][b], of_high, x);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Ints all = joined(whole[r][0] + (whole[r][1] << 8), high[r][0] + (high[r][1] << 8));
      if constexpr (kBytes == 2) {
        products[r].v[0] = to_floats(all);
      } else {
        products[r].v[0] = to_floats(joined(whole[r][kBytes - 1], high[r][kBytes - 1]), all);
      }
    }
  }

  template <int kRows>
  static TOOLKIT_INLINE void times8(const VnniGroup* const (&rows)[kRows], const uint8_t* codes,
                                    Column (&products)[kRows]) {
    Ints sums[kRows][kBytes];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) begin(rows[r]->start[2], sums[r]);
#pragma GCC unroll 8
    for (int i = 0; i < kQuantGroup; i += 4) {
      const Ints unsigned_codes = by_rows8(codes + i * kPanel) ^ static_cast<int32_t>(0x80808080);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
        for (int b = 0; b < kBytes; ++b) {
          const Ints x = rows[r]->template at<int32_t>(b, i) - Ints{};
          sums[r][b] = add_fours(sums[r][b], unsigned_codes, x);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Ints all = sums[r][0] + (sums[r][1] << 8);
      if constexpr (kBytes == 2) {
        products[r].v[0] = to_floats(all);
      } else {
        products[r].v[0] = to_floats(sums[r][kBytes - 1], all);
      }
    }
  }

 private:
  template <typename T>
  TOOLKIT_INLINE T at(int byte, int i) const {
    T value;
    __builtin_memcpy(&value, q[byte] + i, sizeof(value));
    return value;
  }
  static TOOLKIT_INLINE void begin(const int32_t (&starts)[kBytes], Ints (&sums)[kBytes]) {
#pragma GCC unroll 3
    for (int b = 0; b < kBytes; ++b) sums[b] = starts[b] - Ints{};
  }
  /// The two lanes of rows 0 to 7, and of rows 8 to 15, added.
  static TOOLKIT_INLINE Ints joined(Ints whole, Ints high) {
    Ints even, odd;
    deinterleave(whole - high, high >> 4, &even, &odd);
    return even + odd;
  }
};

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
