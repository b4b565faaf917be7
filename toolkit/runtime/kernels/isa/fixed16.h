// fixed16: products of activations in 16-bit fixed point with the codes of weights, on integer
// units.
//
// Groups of 32 neighbours of a row are written as scale * q, q whole numbers of 16 bits; the codes
// are what they are, int4 ones less 8. For a group, with q · c its exact sum of 32 products, ws and
// wo a weight's scale and offset (of codes that are centred so):
//
//   x Wᵀ:  y[t, n]  += scale[t] (ws[n] (q[t] · c[n])) + (scale[t] Σ q[t]) wo[n]
//   dy W:  dx[t, k] += scale[t] m (q'[t] · c[k]),  q' = q ws[n] / m, m the largest |ws[n]|
//
// In dy W the scale varies along the sum: q' is one rounding multiplication of 16 bits for all
// columns that share the weights' scales, with ws / m rounded to 16 bits as well; Σ q wo is added
// to all of them alike. Every group is one fused multiplication and addition in the order of the
// depth, the offsets of a stretch's groups before their products in x Wᵀ and after them in dy W, so
// that all instruction sets give the same bits. |q| <= 32639, so that q = 256 hi + lo
// with signed bytes hi and lo. Sums of a group fit in 32 bits: below 2^23 for int4, 2^27 for int8,
// which the conversion to float rounds. A group with an element that is no number has scale NaN.
//
// Left: blocks of kBlock rows; in a block the q of all groups, each of them kBlock rows of 64
// bytes, then the groups' scales, then their scale * Σ q, kBlock each. Right: a stretch of
// kStretch groups of kGroup columns; panels of codes, then what they are multiplied with. How 64
// bytes of q and a panel are laid out is known to fixed16_pairs.h or fixed16_bytes.h.
#pragma once

#include "kernels/isa/gemm.h"

namespace toolkit {
namespace TOOLKIT_ISA {

constexpr float kLimit = 32639;
constexpr int64_t kStretch = fixed16::kStretch;

/// The groups of a row block from some group on.
struct LeftGroups {
  const int16_t* q;    // [groups][kBlock][32]
  const float* scale;  // [groups][kBlock]
  const float* total;  // [groups][kBlock], scale * Σ q
  int64_t next;        // bytes from a block to the next

  /// The same groups `blocks` blocks further on.
  TOOLKIT_INLINE LeftGroups after(int64_t blocks) const {
    const int64_t floats = blocks * next / static_cast<int64_t>(sizeof(float));
    return {q + 2 * floats, scale + floats, total + floats, next};
  }
};

/// A packed stretch of a right operand, `width` columns.
struct RightGroups {
  char* codes;  // [groups] panels
  int64_t width;
  bool offset;
  int64_t groups;
  // x Wᵀ
  float* scale;  // [groups][width]
  float* shift;  // [groups][width], the offsets
  // dy W
  int16_t* ratio;        // [groups][32]: ws / m * 32767, as q lies in memory
  int16_t* shift_ratio;  // [groups][32]: the same of the offsets
  float* largest;        // [groups]: m * 32768 / 32767
  float* shift_largest;  // [groups]: the largest |wo| / 32767
};

/// A row block of a left operand, from group `group` on.
TOOLKIT_INLINE LeftGroups groups_of(const void* left, int64_t depth, int64_t block, int64_t group) {
  const int64_t groups = divide_up(depth, kQuantGroup);
  const char* base =
      static_cast<const char*>(left) + block * groups * kBlock * fixed16::kGroupBytes;
  const auto* q = reinterpret_cast<const int16_t*>(base);
  const auto* scale = reinterpret_cast<const float*>(q + groups * kBlock * kQuantGroup);
  return {q + group * kBlock * kQuantGroup, scale + group * kBlock,
          scale + (groups + group) * kBlock, groups * kBlock * fixed16::kGroupBytes};
}

/// scale * view as such blocks, from block `first` to `last`.
void pack_fixed16(const View& view, int64_t rows, int64_t depth, float scale, int64_t first,
                  int64_t last, void* out);

/// Bytes of a panel of a group.
TOOLKIT_INLINE int64_t panel_bytes(int64_t width) { return kQuantGroup * 2 * width; }

/// Panels for x Wᵀ: rows [row, row + width) of W, `groups` groups of features from `feature` on.
void pack_weight_rows(const QuantizedMatrix& w, int64_t row, int64_t feature, RightGroups* out);
/// The same for dy W: features [feature, feature + width) of one group, `rows` rows from `row` on.
void pack_weight_columns(const QuantizedMatrix& w, int64_t feature, int64_t row, int64_t rows,
                         RightGroups* out);

/// Codes of a panel from one feature on.
TOOLKIT_INLINE const uint8_t* codes_of(const QuantizedMatrix& w, int64_t panel, int64_t feature) {
  return w.codes + (panel * w.depth + feature) * 2 * w.bits;
}

/// a * b + c, rounded once.
TOOLKIT_INLINE Floats fused(Floats a, Floats b, Floats c) {
#if TOOLKIT_LANES == 16
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif TOOLKIT_LANES == 8
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(TOOLKIT_ISA_IS_NEON)
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  for (int i = 0; i < kLanes; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#endif
}

/// What `nearest` is for: numbers below, in size.
#if TOOLKIT_LANES >= 8 || defined(TOOLKIT_ISA_IS_NEON)
constexpr float kMostNearest = 0x1p31f;
#else
constexpr float kMostNearest = 0x1p22f;
#endif

/// To the nearest whole number, of two the even one.
TOOLKIT_INLINE Ints nearest(Floats x) {
#if TOOLKIT_LANES == 16
  return (Ints)_mm512_cvtps_epi32((__m512)x);
#elif TOOLKIT_LANES == 8
  return (Ints)_mm256_cvtps_epi32((__m256)x);
#elif defined(TOOLKIT_ISA_IS_NEON)
  return (Ints)vcvtnq_s32_f32((float32x4_t)x);
#else
  const Floats kMagic = splat(12582912.0f);  // 1.5 * 2^23
  return (Ints)(x + kMagic) - (Ints)kMagic;
#endif
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
