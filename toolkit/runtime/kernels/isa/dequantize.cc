// int4 and int8 panels to floats (layout: QuantizedMatrix in kernels.h).
#include "kernels/isa/dequantize.h"

#include "kernels/isa/rows.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

constexpr int64_t kAhead = 4;  // panels

/// Hides where a vector comes from: GCC 12 would otherwise merge shuffles and widenings element by
/// element.
template <typename V>
TOOLKIT_INLINE V opaque(V v) {
#if defined(__clang__)
#elif defined(__x86_64__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
  return v;
}

/// 16 unsigned codes as 16 floats.
TOOLKIT_INLINE Column widen(Bytes16 codes) {
  Column c;
#if TOOLKIT_LANES == 16
  c.v[0] = __builtin_convertvector(__builtin_convertvector(codes, Ints), Floats);
#elif TOOLKIT_LANES == 8
  const ByteLanes low = __builtin_shufflevector(codes, codes, 0, 1, 2, 3, 4, 5, 6, 7);
  const ByteLanes high = __builtin_shufflevector(codes, codes, 8, 9, 10, 11, 12, 13, 14, 15);
  c.v[0] = __builtin_convertvector(__builtin_convertvector(opaque(low), Ints), Floats);
  c.v[1] = __builtin_convertvector(__builtin_convertvector(opaque(high), Ints), Floats);
#else
  const Bytes16 zero{};
  const Bytes16 low =
      __builtin_shufflevector(codes, zero, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const Bytes16 high = __builtin_shufflevector(codes, zero, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
                                               13, 29, 14, 30, 15, 31);
  typedef uint16_t Shorts8 __attribute__((vector_size(16)));
  const Shorts8 none{};
  const Shorts8 halves[2] = {(Shorts8)low, (Shorts8)high};
  for (int i = 0; i < 2; ++i) {
    const Ints a = (Ints)__builtin_shufflevector(halves[i], none, 0, 8, 1, 9, 2, 10, 3, 11);
    const Ints b = (Ints)__builtin_shufflevector(halves[i], none, 4, 12, 5, 13, 6, 14, 7, 15);
    c.v[2 * i] = __builtin_convertvector(a, Floats);
    c.v[2 * i + 1] = __builtin_convertvector(b, Floats);
  }
#endif
  return c;
}

TOOLKIT_INLINE void store_affine(float* out, Bytes16 codes, const Column& scale,
                                 const Column& offset) {
  const Column c = widen(opaque(codes));
  for (int i = 0; i < kParts; ++i) store(out + i * kLanes, c.v[i] * scale.v[i] + offset.v[i]);
}

/// What a code of 0 stands for, given the scale: int8 codes are read as unsigned after adding 128.
TOOLKIT_INLINE float zero_point(const QuantizedMatrix& w) { return w.bits == 4 ? -8.0f : -128.0f; }

TOOLKIT_INLINE void group_parameters(const QuantizedMatrix& w, int64_t panel, int64_t group,
                                     Column* scale, Column* offset) {
  const int64_t at = (panel * (w.depth / kQuantGroup) + group) * kPanel;
  *scale = load_halves(w.scale + at);
  if (w.offset != nullptr) {
    *offset = load_halves(w.offset + at);
  } else {
    for (int i = 0; i < kParts; ++i) offset->v[i] = scale->v[i] * zero_point(w);
  }
}

constexpr uint8_t kSignFlip = 128;

/// Transposes 16 x (16 or 8) bytes held in kCount vectors: every stage rotates the address bits by
/// one.
template <int kCount>
TOOLKIT_INLINE void transpose_bytes(Bytes16* v) {
  for (int stage = 0; stage < 4; ++stage) {
    Bytes16 t[kCount];
#pragma GCC unroll 8
    for (int i = 0; i < kCount / 2; ++i) {
      const Bytes16 a = v[i], b = v[i + kCount / 2];
      t[2 * i] =
          __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      t[2 * i + 1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14,
                                             30, 15, 31);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) v[i] = t[i];
  }
}

TOOLKIT_INLINE void rows4(const uint8_t* codes, int64_t depth, const Column& scale,
                          const Column& offset, float* out, int64_t width) {
  for (int64_t k = 0; k < depth; k += 2) {
    const Bytes16 pair = load<Bytes16>(codes + k * 8);
    const Bytes16 low = pair & 15, high = pair >> 4;
    const Bytes16 even =
        __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    const Bytes16 odd = __builtin_shufflevector(low, high, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26,
                                                27, 28, 29, 30, 31);
    store_affine(out + k * width, even, scale, offset);
    store_affine(out + (k + 1) * width, odd, scale, offset);
  }
}

TOOLKIT_INLINE void rows8(const uint8_t* codes, int64_t depth, const Column& scale,
                          const Column& offset, float* out, int64_t width) {
  for (int64_t k = 0; k < depth; ++k) {
    store_affine(out + k * width, load<Bytes16>(codes + k * 16) ^ kSignFlip, scale, offset);
  }
}

/// Once the halves of the features' eight bytes are apart, a row is the same four bits of every
/// lane: no byte has to move.
template <int kTiles>
#if TOOLKIT_LANES == 16
// One vector holds all that a row's codes can stand for.
TOOLKIT_INLINE void tiles4(const uint8_t* codes, const float* scale, const float* offset,
                           float* out, int64_t width) {
  const Floats all = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  Ints halves[kTiles][2];
#pragma GCC unroll 2
  for (int i = 0; i < kTiles; ++i) {
    const uint8_t* from = codes + i * 128;
    deinterleave(load<Ints>(from), load<Ints>(from + 64), &halves[i][0], &halves[i][1]);
  }
#pragma GCC unroll 16
  for (int row = 0; row < kPanel; ++row) {
    const Floats values = all * splat(scale[row]) + splat(offset[row]);
#pragma GCC unroll 2
    for (int i = 0; i < kTiles; ++i) {
      const Ints code = halves[i][row % 8 / 4] >> (row % 4 * 8 + row / 8 * 4);
      // Only the lowest four bits of a lane's code count.
      store(out + row * width + i * kLanes,
            (Floats)_mm512_permutexvar_ps((__m512i)code, (__m512)values));
    }
  }
}
#else
TOOLKIT_INLINE void tiles4(const uint8_t* codes, const float* scale, const float* offset,
                           float* out, int64_t width) {
  for (int part = 0; part < kTiles * kParts; ++part) {
    const uint8_t* from = codes + part * kLanes * 8;
    Ints halves[2];
    deinterleave(load<Ints>(from), load<Ints>(from + kLanes * 4), &halves[0], &halves[1]);
#pragma GCC unroll 16
    for (int row = 0; row < kPanel; ++row) {
      const Ints half = halves[row % 8 / 4];
      const Ints code = (half >> (row % 4 * 8 + row / 8 * 4)) & 15;
      store(out + row * width + part * kLanes,
            __builtin_convertvector(code, Floats) * splat(scale[row]) + splat(offset[row]));
    }
  }
}
#endif

TOOLKIT_INLINE void tile8(const uint8_t* codes, const float* scale, const float* offset, float* out,
                          int64_t width) {
  Bytes16 v[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) v[i] = load<Bytes16>(codes + i * 16) ^ kSignFlip;
  transpose_bytes<16>(v);
#pragma GCC unroll 16
  for (int j = 0; j < 16; ++j) {
    store_affine(out + j * width, v[j], column_splat(scale[j]), column_splat(offset[j]));
  }
}

/// Asks for the codes and parameters of tiles: panels lie too far apart for the processor to
/// guess.
TOOLKIT_INLINE void prefetch_tiles(const QuantizedMatrix& w, int64_t panel, int64_t feature,
                                   int64_t features) {
  const int64_t column_bytes = 2 * w.bits;
  const uint8_t* codes = w.codes + (panel * w.depth + feature) * column_bytes;
  for (int64_t i = 0; i < features * column_bytes; i += 64) __builtin_prefetch(codes + i);
  const int64_t at = (panel * (w.depth / kQuantGroup) + feature / kQuantGroup) * kPanel;
  __builtin_prefetch(w.scale + at);
  if (w.offset != nullptr) __builtin_prefetch(w.offset + at);
}

template <int kTiles>
void columns_of_tiles(const QuantizedMatrix& w, int64_t row0, int64_t rows, int64_t feature,
                      float* out, int64_t width) {
  constexpr int64_t kFeatures = kTiles * kPanel;
  const int64_t column_bytes = 2 * w.bits;
  for (int64_t row = 0; row < rows; row += kPanel) {
    const int64_t panel = (row0 + row) / kPanel;
    const int64_t ahead = row + kAhead * kPanel;
    if (ahead < rows) {
      prefetch_tiles(w, panel + kAhead, feature, kFeatures);
    } else if (ahead < 2 * rows && feature + kFeatures < w.depth) {
      // The next columns.
      prefetch_tiles(w, (row0 + ahead - rows) / kPanel, feature + kFeatures, kFeatures);
    }
    const uint8_t* codes = w.codes + (panel * w.depth + feature) * column_bytes;
    Column scale, offset;
    group_parameters(w, panel, feature / kQuantGroup, &scale, &offset);
    alignas(64) float scales[kPanel], offsets[kPanel];
    store(scales, scale);
    store(offsets, offset);
    asm("" : "+m"(scales), "+m"(offsets));  // loads that broadcast, instead of permutations
    if (w.bits == 4) {
      tiles4<kTiles>(codes, scales, offsets, out + row * width, width);
    } else {
      for (int64_t i = 0; i < kFeatures; i += kPanel) {
        tile8(codes + i * column_bytes, scales, offsets, out + row * width + i, width);
      }
    }
  }
}

}  // namespace

void dequantize_rows(const QuantizedMatrix& w, int64_t panel, int64_t depth0, int64_t depth,
                     float* out, int64_t width) {
  const int64_t column_bytes = 2 * w.bits;
  const uint8_t* codes = w.codes + (panel * w.depth + depth0) * column_bytes;
  for (int64_t k = 0; k < depth;) {
    const int64_t group = (depth0 + k) / kQuantGroup;
    const int64_t count = min(depth - k, (group + 1) * kQuantGroup - (depth0 + k));
    Column scale, offset;
    group_parameters(w, panel, group, &scale, &offset);
    if (w.bits == 4) {
      rows4(codes + k * column_bytes, count, scale, offset, out + k * width, width);
    } else {
      rows8(codes + k * column_bytes, count, scale, offset, out + k * width, width);
    }
    k += count;
  }
}

void dequantize_columns(const QuantizedMatrix& w, int64_t row0, int64_t rows, int64_t feature,
                        int64_t features, float* out, int64_t width) {
  if (features == kPanel) {
    columns_of_tiles<1>(w, row0, rows, feature, out, width);
  } else {
    columns_of_tiles<2>(w, row0, rows, feature, out, 2 * kPanel);
  }
}

void dequantize_row(const QuantizedMatrix& w, int64_t row, float* out) {
  const int64_t panel = row / kPanel, lane = row % kPanel, bytes = 2 * w.bits;
  const uint8_t* codes = w.codes + panel * w.depth * bytes + (w.bits == 4 ? lane % 8 : lane);
  const int shift = w.bits == 4 && lane >= 8 ? 4 : 0;
  for (int64_t group = 0; group < w.depth / kQuantGroup; ++group) {
    const int64_t at = (panel * (w.depth / kQuantGroup) + group) * kPanel + lane;
    const float scale = half_to_float(w.scale[at]);
    const float offset = w.offset != nullptr ? half_to_float(w.offset[at]) : 0.0f;
    const int zero = w.offset != nullptr || w.bits == 8 ? 0 : 8;
    for (int64_t k = group * kQuantGroup; k < (group + 1) * kQuantGroup; ++k) {
      const uint8_t byte = codes[k * bytes];
      const int code = w.bits == 4 ? ((byte >> shift) & 15) : static_cast<int8_t>(byte);
      out[k] = scale * static_cast<float>(code - zero) + offset;
    }
  }
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
