// Vectors of the instruction set this file is compiled for, in the compilers' own vector types.
//
// Included by the sources of kernels/isa/ only. Each is compiled once per instruction set with
// TOOLKIT_ISA (the namespace) and TOOLKIT_LANES (floats a vector) defined; everything lives in that
// namespace, so that the linker can never merge code compiled for different processors.
#pragma once

#include <cstdint>

#include "kernels/integers.h"
#include "kernels/primitives.h"

#if TOOLKIT_LANES >= 8
#include <immintrin.h>
#elif defined(TOOLKIT_ISA_IS_NEON)
#include <arm_neon.h>
#endif

namespace toolkit {
namespace TOOLKIT_ISA {

constexpr int kLanes = TOOLKIT_LANES;
constexpr int kParts = kPanel / kLanes;  // vectors that make 16 floats

typedef float Floats __attribute__((vector_size(4 * TOOLKIT_LANES)));
typedef double Doubles __attribute__((vector_size(8 * TOOLKIT_LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * TOOLKIT_LANES)));
typedef float Floats4 __attribute__((vector_size(16)));
typedef uint8_t Bytes16 __attribute__((vector_size(16)));
typedef uint16_t HalfLanes __attribute__((vector_size(2 * TOOLKIT_LANES)));
typedef uint8_t ByteLanes __attribute__((vector_size(TOOLKIT_LANES)));

template <typename V = Floats, typename T>
TOOLKIT_INLINE V load(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(V));
  return v;
}
template <typename V, typename T>
TOOLKIT_INLINE void store(T* p, V v) {
  __builtin_memcpy(p, &v, sizeof(V));
}

TOOLKIT_INLINE Floats splat(float x) { return x - Floats{}; }
TOOLKIT_INLINE Floats select(Ints mask, Floats a, Floats b) {
  return (Floats)((mask & (Ints)a) | (~mask & (Ints)b));
}
/// Of a pair with NaN both return b.
TOOLKIT_INLINE Floats maximum(Floats a, Floats b) { return a > b ? a : b; }
TOOLKIT_INLINE Floats minimum(Floats a, Floats b) { return a < b ? a : b; }

TOOLKIT_INLINE float sum(Floats v) {
  float total = v[0];
  for (int i = 1; i < kLanes; ++i) total += v[i];
  return total;
}
/// The sum of all lanes, halves added to halves.
TOOLKIT_INLINE float tree_sum(Floats v) {
#if TOOLKIT_LANES == 16
  v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif TOOLKIT_LANES == 8
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
#else
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2);
#endif
  return v[0];
}

TOOLKIT_INLINE Doubles widen(Floats v) { return __builtin_convertvector(v, Doubles); }
TOOLKIT_INLINE Floats narrow(Doubles v) { return __builtin_convertvector(v, Floats); }
TOOLKIT_INLINE double sum(Doubles v) {
  double total = v[0];
  for (int i = 1; i < kLanes; ++i) total += v[i];
  return total;
}
TOOLKIT_INLINE float largest(Floats v) {
  float result = v[0];
  for (int i = 1; i < kLanes; ++i) result = v[i] > result ? v[i] : result;
  return result;
}

/// Calls body(offset, count) over [begin, end) in vectors; the last, partial one with a smaller
/// count.
template <typename Body>
TOOLKIT_INLINE void for_vectors(int64_t begin, int64_t end, Body body) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) body(i, kLanes);
  if (i < end) body(i, static_cast<int>(end - i));
}

TOOLKIT_INLINE Floats load_part(const float* p, int count) {
  if (count == kLanes) return load(p);
  Floats v{};
  for (int i = 0; i < count; ++i) v[i] = p[i];
  return v;
}

TOOLKIT_INLINE void store_part(float* p, Floats v, int count) {
  if (count == kLanes) {
    store(p, v);
  } else {
    for (int i = 0; i < count; ++i) p[i] = v[i];
  }
}

/// exp(x), relative error below 2e-7 (about 1.5 ulp) on [-87.3, 88.3]; 0 below, finite above, NaN
/// of NaN. Range reduction to |r| <= ln2/2 with ln2 in two parts, then the minimax polynomial of
/// Cephes' expf.
TOOLKIT_INLINE Floats exp(Floats x) {
  const Floats kMagic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const Ints underflow = x < splat(-87.3f);
  x = minimum(splat(88.3f), maximum(splat(-87.3f), x));
  const Floats shifted = x * 1.44269504f + kMagic;
  const Floats n = shifted - kMagic;
  const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Ints power = ((Ints)shifted - (Ints)kMagic + 127) << 23;
  return (Floats)(~underflow & (Ints)(p * (Floats)power));
}

/// 1 / (1 + exp(-x)).
TOOLKIT_INLINE Floats sigmoid(Floats x) { return 1.0f / (1.0f + exp(-x)); }

/// The even and the odd lanes of two vectors.
TOOLKIT_INLINE void deinterleave(Ints a, Ints b, Ints* even, Ints* odd) {
#if TOOLKIT_LANES == 16
  *even = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  *odd = __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif TOOLKIT_LANES == 8
  *even = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
  *odd = __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
  *even = __builtin_shufflevector(a, b, 0, 2, 4, 6);
  *odd = __builtin_shufflevector(a, b, 1, 3, 5, 7);
#endif
}

/// 16 floats: one column of a weight panel.
struct Column {
  Floats v[kParts];
};

TOOLKIT_INLINE Column column_splat(float x) {
  Column c;
  for (int i = 0; i < kParts; ++i) c.v[i] = splat(x);
  return c;
}
TOOLKIT_INLINE void store(float* p, const Column& c) {
  for (int i = 0; i < kParts; ++i) store(p + i * kLanes, c.v[i]);
}

/// fp16 bits to float, exactly: infinity and NaN stay what they are, and subnormals do not depend
/// on how the processor treats subnormal floats.
TOOLKIT_INLINE float half_to_float(uint16_t bits) {
  constexpr uint32_t kInfinity = 0x7c00u << 13, kRebias = (127 - 15) << 23;
  uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fff) << 13;
  const bool subnormal = magnitude < (1u << 23), finite = magnitude < kInfinity;
  // A subnormal gets an implicit one in front, which is taken away again as a number.
  magnitude += subnormal ? kRebias + (1u << 23) : finite ? kRebias : 2 * kRebias;
  float value;
  __builtin_memcpy(&value, &magnitude, 4);
  if (subnormal) value -= 0x1p-14f;
  return (bits & 0x8000) != 0 ? -value : value;
}

/// half_to_float of 16.
TOOLKIT_INLINE Column load_halves(const uint16_t* p) {
  Column c;
#if TOOLKIT_LANES == 16
  c.v[0] = (Floats)_mm512_cvtph_ps(load<__m256i>(p));
#elif TOOLKIT_LANES == 8
  for (int i = 0; i < kParts; ++i) c.v[i] = (Floats)_mm256_cvtph_ps(load<__m128i>(p + i * kLanes));
#elif defined(TOOLKIT_ISA_IS_NEON)
  for (int i = 0; i < kParts; ++i) c.v[i] = vcvt_f32_f16(load<float16x4_t>(p + i * kLanes));
#else
  for (int i = 0; i < kParts; ++i) {
    const Ints bits = __builtin_convertvector(load<HalfLanes>(p + i * kLanes), Ints);
    const Ints magnitude = (bits & 0x7fff) << 13;
    const Ints subnormal = magnitude < (1 << 23), infinite = magnitude >= (0x7c00 << 13);
    const Ints exponent = ((subnormal & 1) + ((infinite & 112) + 112)) << 23;
    const Floats value = (Floats)(magnitude + exponent) - (Floats)(subnormal & (113 << 23));
    c.v[i] = (Floats)((Ints)value | ((bits & 0x8000) << 16));
  }
#endif
  return c;
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
