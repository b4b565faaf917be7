// One row times a panel of 16 rows of W, as the codes lie in memory.
//
//   y[n] = Σ_g scale[n, g] Σ_k code[n, k] x[k] + offset[n, g] Σ_k x[k]      k in the group g of 32
//
// int4: a vector of 32-bit lanes has the eight bytes of a feature in two of them, so every lane of
// x is doubled (x0 x0 x1 x1 ..), and the same four bits of all lanes are one row in the even lanes
// and the fourth row behind it in the odd ones: nothing has to move. int8: a feature's codes are a
// column of 16 floats. A code of 0 stands for the offset, or for -8 times the scale.
#include "kernels/isa/few_rows.h"

#include "kernels/isa/dequantize.h"
#include "kernels/isa/rows.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

typedef int8_t SignedLanes __attribute__((vector_size(TOOLKIT_LANES)));
constexpr int kNibbles = 8;
constexpr int64_t kAheadBytes = 2048;

/// How many times its code a nibble is read as, where it need not be moved.
constexpr float place_of(int nibble) {
  return nibble + 1 < kNibbles ? static_cast<float>(1 << (4 * nibble)) : 1.0f;
}

/// The four bits of number kNibble of all lanes, as floats, times its place. They stay where they
/// are, since shifts are what a processor does least of at once; the highest would be a sign.
/// Powers of two change no digit; sums overflow at activations of 1e28 or so.
template <int kNibble>
TOOLKIT_INLINE Floats codes_of(Ints lanes) {
  if constexpr (kNibble + 1 == kNibbles) {
    typedef uint32_t Unsigned __attribute__((vector_size(4 * TOOLKIT_LANES)));
    return __builtin_convertvector((Ints)((Unsigned)lanes >> (4 * kNibble)), Floats);
  } else {
    return __builtin_convertvector(lanes & (15 << (4 * kNibble)), Floats);
  }
}

/// A column's elements of the rows that a nibble has, in even and odd lanes by turns.
template <int kNibble>
TOOLKIT_INLINE Floats of_rows(const Column& c) {
  constexpr int a = kNibble / 2 + 8 * (kNibble % 2), b = a + 4;
#if TOOLKIT_LANES == 16
  return __builtin_shufflevector(c.v[0], c.v[0], a, b, a, b, a, b, a, b, a, b, a, b, a, b, a, b);
#elif TOOLKIT_LANES == 8
  const Floats v = c.v[kNibble % 2];
  return __builtin_shufflevector(v, v, a % 8, b % 8, a % 8, b % 8, a % 8, b % 8, a % 8, b % 8);
#else
  return __builtin_shufflevector(c.v[a / 4], c.v[b / 4], a % 4, 4 + b % 4, a % 4, 4 + b % 4);
#endif
}

/// Adds `factor` times the sums of the even and of the odd lanes.
TOOLKIT_INLINE void add_sums(Floats v, float factor, float* even, float* odd) {
#if TOOLKIT_LANES == 16
  typedef float Floats8 __attribute__((vector_size(32)));
  const Floats8 half = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                       __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const Floats4 four = __builtin_shufflevector(half, half, 0, 1, 2, 3) +
                       __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif TOOLKIT_LANES == 8
  const Floats4 four =
      __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
  const Floats4 four = v;
#endif
  *even += factor * (four[0] + four[2]);
  *odd += factor * (four[1] + four[3]);
}

template <int kNibble>
TOOLKIT_INLINE void each_nibble(Ints lanes, Floats x, Floats* sums) {
  sums[kNibble] += codes_of<kNibble>(lanes) * x;
  if constexpr (kNibble + 1 < kNibbles) each_nibble<kNibble + 1>(lanes, x, sums);
}

template <int kNibble>
TOOLKIT_INLINE void scale_nibbles(const Column& scale, const Floats* sums, Floats* totals) {
  totals[kNibble] += sums[kNibble] * of_rows<kNibble>(scale);
  if constexpr (kNibble + 1 < kNibbles) scale_nibbles<kNibble + 1>(scale, sums, totals);
}

/// A vector's int8 codes as floats. GCC 12 would widen them one by one.
TOOLKIT_INLINE Floats signed_codes(const uint8_t* codes) {
#if TOOLKIT_LANES == 16
  return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32((__m128i)load<SignedLanes>(codes)));
#elif TOOLKIT_LANES == 8
  const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes));
  return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
#else
  const Ints codes32 = __builtin_convertvector(load<SignedLanes>(codes), Ints);
  return __builtin_convertvector(codes32, Floats);
#endif
}

TOOLKIT_INLINE Column parameters_at(const uint16_t* halves) {
  __builtin_prefetch(reinterpret_cast<const char*>(halves) + kAheadBytes);
  return load_halves(halves);
}

void panel4(const QuantizedMatrix& w, int64_t panel, const float* doubled, const float* sums,
            float* y) {
  const int64_t groups = w.depth / kQuantGroup, at = panel * groups * kPanel;
  const uint8_t* codes = w.codes + panel * w.panel_bytes();
  Floats totals[kNibbles] = {};
  Column offsets = column_splat(0);
  for (int64_t group = 0; group < groups; ++group) {
    Floats part[kNibbles] = {};
#pragma GCC unroll 4
    for (int64_t i = 0; i < 2 * kQuantGroup; i += kLanes) {
      __builtin_prefetch(codes + i * 4 + kAheadBytes);
      each_nibble<0>(load<Ints>(codes + i * 4), load(doubled + i), part);
    }
    codes += kQuantGroup * 8;
    doubled += 2 * kQuantGroup;
    const Column scale = parameters_at(w.scale + at + group * kPanel);
    scale_nibbles<0>(scale, part, totals);
    const float sum = w.offset != nullptr ? sums[group] : -8.0f * sums[group];
    const Column offset =
        w.offset != nullptr ? parameters_at(w.offset + at + group * kPanel) : scale;
    for (int i = 0; i < kParts; ++i) offsets.v[i] += offset.v[i] * sum;
  }
  store(y, offsets);
  for (int nibble = 0; nibble < kNibbles; ++nibble) {
    float* row = y + nibble / 2 + 8 * (nibble % 2);
    add_sums(totals[nibble], 1.0f / place_of(nibble), row, row + 4);
  }
}

/// `x` is doubled here too.
void panel8(const QuantizedMatrix& w, int64_t panel, const float* x, float* y) {
  constexpr int kChains = 4;  // additions that do not wait for each other
  const int64_t groups = w.depth / kQuantGroup, at = panel * groups * kPanel;
  const uint8_t* codes = w.codes + panel * w.panel_bytes();
  Column total = column_splat(0);
  for (int64_t group = 0; group < groups; ++group) {
    Column part[kChains];
    for (Column& column : part) column = column_splat(0);
    for (int64_t k = 0; k < kQuantGroup; k += kChains) {
      __builtin_prefetch(codes + k * kPanel + kAheadBytes);
#pragma GCC unroll 4
      for (int j = 0; j < kChains; ++j) {
        const Floats value = splat(x[2 * (k + j)]);
#pragma GCC unroll 4
        for (int i = 0; i < kParts; ++i) {
          part[j].v[i] += signed_codes(codes + (k + j) * kPanel + i * kLanes) * value;
        }
      }
    }
    codes += kQuantGroup * kPanel;
    x += 2 * kQuantGroup;
    const Column scale = parameters_at(w.scale + at + group * kPanel);
    for (int i = 0; i < kParts; ++i) {
      const Floats sum = (part[0].v[i] + part[1].v[i]) + (part[2].v[i] + part[3].v[i]);
      total.v[i] += sum * scale.v[i];
    }
  }
  store(y, total);
}

}  // namespace

void double_row(const float* x, int64_t depth, void* out) {
  auto* doubled = static_cast<float*>(out);
  float* sums = doubled + 2 * depth;
  for (int64_t group = 0; group < depth / kQuantGroup; ++group) {
    float sum = 0;
    for (int64_t k = group * kQuantGroup; k < (group + 1) * kQuantGroup; ++k) {
      doubled[2 * k] = doubled[2 * k + 1] = x[k];
      sum += x[k];
    }
    sums[group] = sum;
  }
}

void multiply_panel(const QuantizedMatrix& w, int64_t panel, const void* rows, int64_t count,
                    float* y, int64_t stride) {
  const int64_t floats = w.depth / kQuantGroup * few_rows::kGroupBytes / int64_t(sizeof(float));
  for (int64_t i = 0; i < count; ++i) {
    const float* doubled = static_cast<const float*>(rows) + i * floats;
    if (w.bits == 4) {
      panel4(w, panel, doubled, doubled + 2 * w.depth, y + i * stride);
    } else {
      panel8(w, panel, doubled, y + i * stride);
    }
  }
}

void dot_rows(const float* x, const float* rows, int64_t depth, int64_t count, float scale,
              bool accumulate, float* out) {
  for (int64_t row = 0; row < count; ++row) {
    Floats total{};
    for_vectors(0, depth, [&](int64_t i, int n) {
      total += load_part(x + i, n) * load_part(rows + row * depth + i, n);
    });
    const float dot = scale * tree_sum(total);
    out[row] = accumulate ? out[row] + dot : dot;
  }
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
