// Groups of a row as bytes, for the instruction that adds four products of signed bytes to each of
// four lanes.
#pragma once

#include "kernels/isa/row_groups_bytes.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// Sums of int4 begin with what makes codes centred.
struct DotStarts {
  static constexpr int32_t kFactors[] = {-8};
};

template <int kCount>
struct DotGroup : ByteGroup<kCount, DotStarts> {
  using ByteGroup<kCount, DotStarts>::kBytes;
  using ByteGroup<kCount, DotStarts>::q;
  using ByteGroup<kCount, DotStarts>::start;

  static constexpr int kTogether = 2;  // rows whose sums are in registers

  template <int kRows>
  static TOOLKIT_INLINE void times4(const DotGroup* const (&rows)[kRows], const uint8_t* codes,
                                    Column (&products)[kRows]) {
    // Of four features, eight bytes each, those of rows 0 to 3 and of rows 4 to 7.
    alignas(16) static constexpr uint8_t kPlaces[2][16] = {
        {0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27},
        {4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31}};
    const uint8x16_t of_rows[2] = {vld1q_u8(kPlaces[0]), vld1q_u8(kPlaces[1])};
    int32x4_t sums[kRows][kBytes][kParts];
#pragma GCC unroll 2
    for (int r = 0; r < kRows; ++r) begin(rows[r]->start[0], sums[r]);
#pragma GCC unroll 8
    for (int i = 0; i < kQuantGroup; i += 4) {
      const uint8x16x2_t four = {vld1q_u8(codes + i * 8), vld1q_u8(codes + i * 8 + 16)};
      int8x16_t parts[kParts];
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const uint8x16_t both = vqtbl2q_u8(four, of_rows[half]);
        parts[half] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
        parts[2 + half] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
      }
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) rows[r]->add(parts, i, sums[r]);
    }
#pragma GCC unroll 2
    for (int r = 0; r < kRows; ++r) products[r] = column_of(sums[r]);
  }

  template <int kRows>
  static TOOLKIT_INLINE void times8(const DotGroup* const (&rows)[kRows], const uint8_t* codes,
                                    Column (&products)[kRows]) {
    constexpr int32_t kNothing[kBytes] = {};
    int32x4_t sums[kRows][kBytes][kParts];
#pragma GCC unroll 2
    for (int r = 0; r < kRows; ++r) begin(kNothing, sums[r]);
#pragma GCC unroll 8
    for (int i = 0; i < kQuantGroup; i += 4) {
      const uint8_t* at = codes + i * kPanel;
      const uint8x16_t a = vld1q_u8(at), b = vld1q_u8(at + 16);
      const uint8x16_t c = vld1q_u8(at + 32), d = vld1q_u8(at + 48);
      const uint16x8_t low[2] = {vreinterpretq_u16_u8(vzip1q_u8(a, b)),
                                 vreinterpretq_u16_u8(vzip1q_u8(c, d))};
      const uint16x8_t high[2] = {vreinterpretq_u16_u8(vzip2q_u8(a, b)),
                                  vreinterpretq_u16_u8(vzip2q_u8(c, d))};
      const int8x16_t parts[kParts] = {vreinterpretq_s8_u16(vzip1q_u16(low[0], low[1])),
                                       vreinterpretq_s8_u16(vzip2q_u16(low[0], low[1])),
                                       vreinterpretq_s8_u16(vzip1q_u16(high[0], high[1])),
                                       vreinterpretq_s8_u16(vzip2q_u16(high[0], high[1]))};
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) rows[r]->add(parts, i, sums[r]);
    }
#pragma GCC unroll 2
    for (int r = 0; r < kRows; ++r) products[r] = column_of(sums[r]);
  }

 private:
  static TOOLKIT_INLINE void begin(const int32_t (&starts)[kBytes],
                                   int32x4_t (&sums)[kBytes][kParts]) {
#pragma GCC unroll 3
    for (int b = 0; b < kBytes; ++b) {
#pragma GCC unroll 4
      for (int part = 0; part < kParts; ++part) sums[b][part] = vdupq_n_s32(starts[b]);
    }
  }
  /// sums += elements i to i + 3 times the rows' codes.
  TOOLKIT_INLINE void add(const int8x16_t (&parts)[kParts], int i,
                          int32x4_t (&sums)[kBytes][kParts]) const {
#pragma GCC unroll 3
    for (int b = 0; b < kBytes; ++b) {
      int32_t four;
      __builtin_memcpy(&four, q[b] + i, sizeof(four));
      const int8x16_t all = vreinterpretq_s8_s32(vdupq_n_s32(four));
#pragma GCC unroll 4
      for (int part = 0; part < kParts; ++part) {
        sums[b][part] = vdotq_s32(sums[b][part], parts[part], all);
      }
    }
  }
  static TOOLKIT_INLINE Column column_of(const int32x4_t (&sums)[kBytes][kParts]) {
    Column products;
#pragma GCC unroll 4
    for (int part = 0; part < kParts; ++part) {
      const Ints all = (Ints)vaddq_s32(sums[0][part], vshlq_n_s32(sums[1][part], 8));
      if constexpr (kBytes == 2) {
        products.v[part] = to_floats(all);
      } else {
        products.v[part] = to_floats((Ints)sums[2][part], all);
      }
    }
    return products;
  }
};

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
