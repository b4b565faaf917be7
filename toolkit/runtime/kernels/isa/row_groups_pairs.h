// Groups of a row as pairs of 16 bits, which every vector unit multiplies and adds.
#pragma once

#include "kernels/isa/fixed16_pairs.h"
#include "kernels/isa/row_groups.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// The words of every two features, eight bytes each, by turns.
TOOLKIT_INLINE Ints by_words(const uint8_t* codes) {
  const Shorts v = load<Shorts>(codes);
#if TOOLKIT_LANES == 16
  return (Ints)__builtin_shufflevector(v, v, 0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15,
                                       16, 20, 17, 21, 18, 22, 19, 23, 24, 28, 25, 29, 26, 30, 27,
                                       31);
#elif TOOLKIT_LANES == 8
  return (Ints)__builtin_shufflevector(v, v, 0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
#else
  return (Ints)__builtin_shufflevector(v, v, 0, 4, 1, 5, 2, 6, 3, 7);
#endif
}

/// kLanes rows of int8 codes of two features, as pairs of 16 bits.
TOOLKIT_INLINE Ints pairs8(const uint8_t* codes) {
  typedef int8_t Bytes __attribute__((vector_size(TOOLKIT_LANES)));
  const Bytes a = load<Bytes>(codes), b = load<Bytes>(codes + kPanel);
#if TOOLKIT_LANES == 16
  const auto first =
      __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24,
                              9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  return (Ints)_mm512_cvtepi8_epi16((__m256i)first);
#elif TOOLKIT_LANES == 8
  const auto first =
      __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
  return (Ints)_mm256_cvtepi8_epi16((__m128i)first);
#else
  const auto first = __builtin_shufflevector(a, b, 0, 4, 1, 5, 2, 6, 3, 7);
  return (Ints) __builtin_convertvector(first, Shorts);
#endif
}

/// The sum of all 128 bits.
TOOLKIT_INLINE Ints4 folded(Ints v) {
#if TOOLKIT_LANES == 16
  typedef int32_t Ints8 __attribute__((vector_size(32)));
  const Ints8 half = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                     __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  return __builtin_shufflevector(half, half, 0, 1, 2, 3) +
         __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif TOOLKIT_LANES == 8
  return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
  return v;
#endif
}

struct PairGroup {
  static constexpr int kBytes = 2;

  int32_t pairs[kQuantGroup / 2][4];  // of neighbours, four times each
  float scale, sum;

  void set(const Group& group) {
    for (int i = 0; i < kQuantGroup / 2; ++i) {
      const uint32_t low = static_cast<uint32_t>(group.q[2 * i]) & 0xffff;
      const uint32_t high = static_cast<uint32_t>(group.q[2 * i + 1]) << 16;
      for (int32_t& pair : pairs[i]) pair = static_cast<int32_t>(low | high);
    }
    scale = group.scale;
    sum = static_cast<float>(group.sum);
  }

  static constexpr int kTogether = 2;  // rows whose sums are in registers

  template <int kRows>
  static TOOLKIT_INLINE void times4(const PairGroup* const (&rows)[kRows], const uint8_t* codes,
                                    Column (&products)[kRows]) {
    typedef uint32_t Unsigned __attribute__((vector_size(4 * TOOLKIT_LANES)));
    constexpr int32_t kLow = 0x000f000f, kHigh = 0x00f000f0;
    Ints sums[kRows][4] = {};  // rows 0, 2, 4, 6; 16 times rows 8, 10, 12, 14; and the odd ones
#pragma GCC unroll 16
    for (int i = 0; i < kQuantGroup / 2; i += kLanes / 4) {
      const Ints both = by_words(codes + i * 16), second = (Ints)((Unsigned)both >> 8);
      const Ints parts[4] = {both & kLow, both & kHigh, second & kLow, second & kHigh};
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) {
        const Ints x = load<Ints>(rows[r]->pairs[i]);
#pragma GCC unroll 4
        for (int part = 0; part < 4; ++part) {
          sums[r][part] = add_pairs(sums[r][part], parts[part], x);
        }
      }
    }
#pragma GCC unroll 2
    for (int r = 0; r < kRows; ++r) {
      const int32_t centred = 8 * static_cast<int32_t>(rows[r]->sum);
      const Ints4 a = folded(sums[r][0]) - centred, b = folded(sums[r][2]) - centred;
      const Ints4 c = (folded(sums[r][1]) >> 4) - centred;
      const Ints4 d = (folded(sums[r][3]) >> 4) - centred;
      products[r] = column_of(
          __builtin_shufflevector(a, b, 0, 4, 1, 5), __builtin_shufflevector(a, b, 2, 6, 3, 7),
          __builtin_shufflevector(c, d, 0, 4, 1, 5), __builtin_shufflevector(c, d, 2, 6, 3, 7));
    }
  }

  template <int kRows>
  static TOOLKIT_INLINE void times8(const PairGroup* const (&rows)[kRows], const uint8_t* codes,
                                    Column (&products)[kRows]) {
    Ints sums[kRows][kParts] = {};
#pragma GCC unroll 4
    for (int i = 0; i < kQuantGroup / 2; ++i) {
#pragma GCC unroll 4
      for (int part = 0; part < kParts; ++part) {
        const Ints both = pairs8(codes + i * 2 * kPanel + part * kLanes);
#pragma GCC unroll 2
        for (int r = 0; r < kRows; ++r) {
          const Ints x = rows[r]->pairs[i][0] - Ints{};
          sums[r][part] = add_pairs(sums[r][part], both, x);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int part = 0; part < kParts; ++part) {
        products[r].v[part] = __builtin_convertvector(sums[r][part], Floats);
      }
    }
  }

 private:
  static TOOLKIT_INLINE Column column_of(Ints4 a, Ints4 b, Ints4 c, Ints4 d) {
#if TOOLKIT_LANES == 16
    const auto low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
    const auto high = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7);
    const Ints all =
        __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return {{__builtin_convertvector(all, Floats)}};
#elif TOOLKIT_LANES == 8
    const Ints low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
    const Ints high = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7);
    return {{__builtin_convertvector(low, Floats), __builtin_convertvector(high, Floats)}};
#else
    return {{__builtin_convertvector(a, Floats), __builtin_convertvector(b, Floats),
             __builtin_convertvector(c, Floats), __builtin_convertvector(d, Floats)}};
#endif
  }
};

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
