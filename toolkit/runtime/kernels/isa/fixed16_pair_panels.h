// Panels of pairs of 16-bit codes (see fixed16_pairs.h): element (pair i, column j) at
// (i * width + j) of 32 bits, pair i the rows or features n and n + 8, n = i / 8 * 16 + i % 8.
#pragma once

#include "kernels/isa/fixed16_pairs.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

constexpr int64_t kPairs = 16;

#if TOOLKIT_LANES >= 8
/// Pairs of 8 columns, from the bytes that hold them side by side: low or high halves, less 8.
TOOLKIT_INLINE void store_pairs4(__m128i bytes, char* low, char* high) {
  const __m256i wide = _mm256_cvtepu8_epi16(bytes), centre = _mm256_set1_epi16(8);
  const __m256i a = _mm256_and_si256(wide, _mm256_set1_epi16(15)), b = _mm256_srli_epi16(wide, 4);
  _mm256_storeu_si256((__m256i*)low, _mm256_sub_epi16(a, centre));
  _mm256_storeu_si256((__m256i*)high, _mm256_sub_epi16(b, centre));
}

/// Features [0, 32) of a panel of 16 columns from column `column` on.
TOOLKIT_INLINE void rows_panel4(const uint8_t* codes, int64_t column, int64_t width, char* out) {
  char* to = out + column * 4;
#pragma GCC unroll 8
  for (int64_t i = 0; i < 8; ++i) {  // features 2i, 2i + 1 of either half, and those 8 further
    const uint8_t* from = codes + (i / 4 * 16 + i % 4 * 2) * 8;
    const __m128i a = load<__m128i>(from), b = load<__m128i>(from + 64);
    char* even = to + 2 * i * width * 4;
    char* odd = even + width * 4;
    store_pairs4(_mm_unpacklo_epi8(a, b), even, even + 32);
    store_pairs4(_mm_unpackhi_epi8(a, b), odd, odd + 32);
  }
}

TOOLKIT_INLINE void rows_panel8(const uint8_t* codes, int64_t column, int64_t width, char* out) {
  for (int64_t i = 0; i < kPairs; ++i) {
    const uint8_t* from = codes + (i / 8 * 16 + i % 8) * 16;
    const __m128i a = load<__m128i>(from), b = load<__m128i>(from + 8 * 16);
    char* to = out + (i * width + column) * 4;
    _mm256_storeu_si256((__m256i*)to, _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b)));
    _mm256_storeu_si256((__m256i*)(to + 32), _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(a, b)));
  }
}
#else
TOOLKIT_INLINE void rows_panel4(const uint8_t* codes, int64_t column, int64_t width, char* out) {
  for (int64_t i = 0; i < kPairs; ++i) {
    const uint8_t* from = codes + (i / 8 * 16 + i % 8) * 8;
    int16_t* to = reinterpret_cast<int16_t*>(out) + (i * width + column) * 2;
    for (int64_t j = 0; j < kPanel; ++j) {
      const int shift = j < 8 ? 0 : 4;
      to[2 * j] = static_cast<int16_t>(((from[j % 8] >> shift) & 15) - 8);
      to[2 * j + 1] = static_cast<int16_t>(((from[8 * 8 + j % 8] >> shift) & 15) - 8);
    }
  }
}

TOOLKIT_INLINE void rows_panel8(const uint8_t* codes, int64_t column, int64_t width, char* out) {
  for (int64_t i = 0; i < kPairs; ++i) {
    const auto* from = reinterpret_cast<const int8_t*>(codes + (i / 8 * 16 + i % 8) * 16);
    int16_t* to = reinterpret_cast<int16_t*>(out) + (i * width + column) * 2;
    for (int64_t j = 0; j < kPanel; ++j) {
      to[2 * j] = from[j];
      to[2 * j + 1] = from[8 * 16 + j];
    }
  }
}
#endif

/// Rows of half `half` of a group: the codes of a panel for features [0, width). A byte holds rows
/// j and j + 8, which are a pair.
TOOLKIT_INLINE void columns_half_panel4(const uint8_t* codes, int64_t half, int64_t width,
                                        char* out) {
  for (int64_t column = 0; column < width; column += kLanes) {
    const uint8_t* from = codes + column * 8;
    Ints bytes[2];
    deinterleave(load<Ints>(from), load<Ints>(from + kLanes * 4), &bytes[0], &bytes[1]);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const Ints byte = bytes[j / 4] >> (j % 4 * 8);
      const Ints pair = (byte & 15) | ((byte & 0xf0) << 12);
      store(out + ((half * 8 + j) * width + column) * 4, (Shorts)pair - (int16_t)8);
    }
  }
}

TOOLKIT_INLINE void columns_half_panel8(const uint8_t* codes, int64_t half, int64_t width,
                                        char* out) {
  for (int64_t column = 0; column < width; column += kLanes) {
    const uint8_t* from = codes + column * 16;
    Ints even[2], odd[2], bytes[4];  // bytes 4i to 4i + 3 of every feature
    for (int i = 0; i < 2; ++i) {
      const uint8_t* part = from + i * kLanes * 8;
      deinterleave(load<Ints>(part), load<Ints>(part + kLanes * 4), &even[i], &odd[i]);
    }
    deinterleave(even[0], even[1], &bytes[0], &bytes[2]);
    deinterleave(odd[0], odd[1], &bytes[1], &bytes[3]);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const int shift = j % 4 * 8;
      const Ints low = (bytes[j / 4] >> shift) & 255, high = (bytes[j / 4 + 2] >> shift) & 255;
      const Shorts pair = (Shorts)(low | (high << 16));
      store(out + ((half * 8 + j) * width + column) * 4, (pair ^ (int16_t)128) - (int16_t)128);
    }
  }
}

TOOLKIT_INLINE void clear_half_panel(int64_t half, int64_t width, char* out) {
  __builtin_memset(out + half * 8 * width * 4, 0, 8 * width * 4);
}

}  // namespace
}  // namespace TOOLKIT_ISA
}  // namespace toolkit
