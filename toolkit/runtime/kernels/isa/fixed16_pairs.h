// fixed16 where an instruction multiplies pairs of 16-bit numbers and adds: x86, and plain C++.
//
// A row of q: pairs of elements (j, j + 8) of each half of the group, which are the two halves of a
// byte of int4 codes. A panel: the same pairs, [16][width][2] 16-bit codes.
#pragma once

#include "kernels/isa/fixed16.h"

namespace toolkit {
namespace TOOLKIT_ISA {

constexpr int kStep = kBlock / 2;  // rows of the micro-kernel: sums and accumulators in registers

constexpr int kVectorsTogether = kGroup / kLanes;  // of the micro-kernel
constexpr int64_t kPartBytes = 0;                  // a panel is one part

typedef int16_t Shorts __attribute__((vector_size(4 * TOOLKIT_LANES)));

/// sum + a.low * b.low + a.high * b.high of every lane's pair.
TOOLKIT_INLINE Ints add_pairs(Ints sum, Ints a, Ints b) {
#if defined(TOOLKIT_VNNI) && TOOLKIT_LANES == 16
  return (Ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(TOOLKIT_VNNI)
  return (Ints)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#elif TOOLKIT_LANES == 16
  return sum + (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif TOOLKIT_LANES == 8
  return sum + (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(TOOLKIT_ISA_IS_NEON)
  const auto x = (int16x8_t)a, y = (int16x8_t)b;
  const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
  return sum + (Ints)vpaddq_s32(low, vmull_high_s16(x, y));
#else
  return sum + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

/// (a b + 2^14) / 2^15, rounded down.
TOOLKIT_INLINE Shorts scaled(Shorts a, Shorts b) {
#if TOOLKIT_LANES == 16
  return (Shorts)_mm512_mulhrs_epi16((__m512i)a, (__m512i)b);
#elif TOOLKIT_LANES == 8
  return (Shorts)_mm256_mulhrs_epi16((__m256i)a, (__m256i)b);
#else
  Shorts result;
  for (int i = 0; i < 2 * kLanes; ++i) {
    result[i] = static_cast<int16_t>((int32_t{a[i]} * b[i] + (1 << 14)) >> 15);
  }
  return result;
#endif
}

/// Stores a group of row `row` of a block.
TOOLKIT_INLINE void store_row(const int32_t* q, int row, int16_t* group) {
  int32_t* pairs = reinterpret_cast<int32_t*>(group + row * kQuantGroup);
#if TOOLKIT_LANES == 16
  const Ints a = load<Ints>(q), b = load<Ints>(q + 16);
  const Ints low =
      __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
  const Ints high =
      __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  store(pairs, (low & 0xffff) | (high << 16));
#else
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += kLanes) {
    const int32_t* from = q + i / 8 * 16 + i % 8;
    store(pairs + i, (load<Ints>(from) & 0xffff) | (load<Ints>(from + 8) << 16));
  }
#endif
}

/// Stores 32 factors that rows are multiplied with element by element.
TOOLKIT_INLINE void store_factors(const int32_t* factors, int16_t* out) {
  store_row(factors, 0, out);
}

/// Pair i of the rows of q times that of the panel, added to the sums, or what they begin with.
template <bool kFirst, int kRows, int kVectors>
TOOLKIT_INLINE void add_pair(const int16_t* q, const char* panel, int i,
                             Ints (&sums)[kRows][kVectors]) {
  Ints codes[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    codes[v] = load<Ints>(panel + (i * kVectors + v) * sizeof(Ints));
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    int32_t pair;
    __builtin_memcpy(&pair, q + r * kQuantGroup + 2 * i, sizeof(pair));
    const Ints all = pair - Ints{};
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = add_pairs(kFirst ? Ints{} : sums[r][v], codes[v], all);
    }
  }
}

/// products[r][v] = row r of q times the panel.
template <int kRows, int kVectors>
TOOLKIT_INLINE void multiply_panel(const int16_t* q, const char* panel,
                                   Floats (&products)[kRows][kVectors]) {
  Ints sums[kRows][kVectors];
  add_pair<true>(q, panel, 0, sums);
#pragma GCC unroll 5
  for (int i = 1; i < 16; ++i) add_pair<false>(q, panel, i, sums);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      products[r][v] = __builtin_convertvector(sums[r][v], Floats);
    }
  }
}

/// out = q times ratio / 2^15, rounded, of `rows` rows.
TOOLKIT_INLINE void scale_rows(const int16_t* q, const int16_t* ratio, int64_t rows, int16_t* out) {
  constexpr int kCount = 2 * kLanes;
  for (int64_t r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < kQuantGroup; i += kCount) {
      const int64_t at = r * kQuantGroup + i;
      store(out + at, scaled(load<Shorts>(q + at), load<Shorts>(ratio + i)));
    }
  }
}

/// parts[0, 16) += factor * (the 16 pairs of row r, multiplied with those of `ratio`).
TOOLKIT_INLINE void add_row(const int16_t* q, int r, const int16_t* ratio, float factor,
                            Floats (&parts)[kParts]) {
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) {
    const int64_t at = 2 * i * kLanes;
    const Ints products =
        add_pairs(Ints{}, load<Ints>(q + r * kQuantGroup + at), load<Ints>(ratio + at));
    parts[i] = fused(splat(factor), __builtin_convertvector(products, Floats), parts[i]);
  }
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
