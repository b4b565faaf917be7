// Weights as panels of codes, and what a group's sums are multiplied with (see fixed16.h).
#if defined(TOOLKIT_DOTPROD)
#include "kernels/isa/fixed16_byte_panels.h"
#else
#include "kernels/isa/fixed16_pair_panels.h"
#endif

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

/// What is added to a code of int4 to make a number of 0 to 15.
TOOLKIT_INLINE float centre(const QuantizedMatrix& w) { return w.bits == 4 ? 8.0f : 0.0f; }

TOOLKIT_INLINE int64_t parameters_at(const QuantizedMatrix& w, int64_t panel, int64_t feature) {
  return (panel * (w.depth / kQuantGroup) + feature / kQuantGroup) * kPanel;
}

/// Scales and centred offsets of a panel's rows for one group.
TOOLKIT_INLINE void load_parameters(const QuantizedMatrix& w, int64_t panel, int64_t feature,
                                    float* scale, float* shift) {
  const int64_t at = parameters_at(w, panel, feature);
  const Column scales = load_halves(w.scale + at);
  store(scale, scales);
  if (w.offset == nullptr) return;
  const Column offsets = load_halves(w.offset + at);
  for (int i = 0; i < kParts; ++i) {
    store(shift + i * kLanes, fused(splat(centre(w)), scales.v[i], offsets.v[i]));
  }
}

/// 32 factors as whole numbers, the largest of them 32767; returns what they were divided by, NaN
/// where one is no number.
float to_ratios(const float* factors, int16_t* out) {
  constexpr int32_t kInfinity = 0x7f800000;
  int32_t bits = 0;
  for (int i = 0; i < kQuantGroup; ++i) {
    int32_t magnitude;
    __builtin_memcpy(&magnitude, factors + i, sizeof(magnitude));
    magnitude &= 0x7fffffff;
    bits = bits > magnitude ? bits : magnitude;
  }
  float largest;
  __builtin_memcpy(&largest, &bits, sizeof(largest));
  alignas(64) int32_t ratios[kQuantGroup] = {};
  if (bits >= kInfinity) {
    largest = __builtin_nanf("");
  } else if (bits > 0) {
    const Floats inverse = splat(32767.0f / largest);
    for (int i = 0; i < kQuantGroup; i += kLanes) {
      store(ratios + i, nearest(load(factors + i) * inverse));
    }
  }
  store_factors(ratios, out);
  return largest;
}

/// Asks for codes of a panel that lies too far from the one before for the processor to guess.
TOOLKIT_INLINE void prefetch(const QuantizedMatrix& w, int64_t panel, int64_t feature,
                             int64_t features) {
  const uint8_t* codes = codes_of(w, panel, feature);
  for (int64_t i = 0; i < features * 2 * w.bits; i += 64) __builtin_prefetch(codes + i);
  __builtin_prefetch(w.scale + parameters_at(w, panel, feature));
}

}  // namespace

void pack_weight_rows(const QuantizedMatrix& w, int64_t row, int64_t feature, RightGroups* out) {
  const int64_t width = out->width;
  for (int64_t g = 0; g < out->groups; ++g) {
    const int64_t first = feature + g * kQuantGroup;
    for (int64_t j = 0; j < width; j += kPanel) {
      const int64_t panel = (row + j) / kPanel, at = g * width + j;
      load_parameters(w, panel, first, out->scale + at, out->shift + at);
      char* codes = out->codes + g * panel_bytes(width);
      if (w.bits == 4) {
        rows_panel4(codes_of(w, panel, first), j, width, codes);
      } else {
        rows_panel8(codes_of(w, panel, first), j, width, codes);
      }
    }
  }
}

void pack_weight_columns(const QuantizedMatrix& w, int64_t feature, int64_t row, int64_t rows,
                         RightGroups* out) {
  constexpr int64_t kAhead = 4;  // panels
  const int64_t width = out->width;
  for (int64_t g = 0; g < out->groups; ++g) {
    alignas(64) float scale[kQuantGroup] = {}, shift[kQuantGroup] = {};
    char* codes = out->codes + g * panel_bytes(width);
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t first = g * kQuantGroup + half * kPanel, panel = (row + first) / kPanel;
      if (first >= rows) {  // weights of an odd number of panels
        clear_half_panel(half, width, codes);
        continue;
      }
      if ((panel + kAhead) * kPanel < w.rows) prefetch(w, panel + kAhead, feature, width);
      load_parameters(w, panel, feature, scale + half * kPanel, shift + half * kPanel);
      if (w.bits == 4) {
        columns_half_panel4(codes_of(w, panel, feature), half, width, codes);
      } else {
        columns_half_panel8(codes_of(w, panel, feature), half, width, codes);
      }
    }
    out->largest[g] = to_ratios(scale, out->ratio + g * kQuantGroup) * (32768.0f / 32767.0f);
    if (w.offset == nullptr) continue;
    out->shift_largest[g] = to_ratios(shift, out->shift_ratio + g * kQuantGroup) / 32767.0f;
  }
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
