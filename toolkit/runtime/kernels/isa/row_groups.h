// A row as whole numbers, times panels of 16 rows of W where those lie: fixed16 for a few rows, and
// float32 where bytes are multiplied much faster than floats.
//
// For a group of 32, as in fixed16.h, with codes of int4 centred:
//
//   y[n] += scale (ws[n] (q · c[n]) + wo[n] Σ q)
//
// q of fixed16 has two signed bytes, and the bits are those of packed products. For float32 it has
// three: what is rounded is 2^-24 of the largest of 32 neighbours, less than sums of floats round.
// Sums of a group are exact, and in the end one float, rounded once.
#pragma once

#include "kernels/isa/fixed16_groups.h"

namespace toolkit {
namespace TOOLKIT_ISA {

constexpr int64_t kAheadBytes = 4096;
/// The largest |q| by bytes: the highest byte is 127, and rounding does not reach beyond it.
constexpr float kLimits[] = {0, 0, kLimit, 127 * 65536};

/// Groups of a kind as a row. A kind has q in an order of its own, and tells a group's products
/// with a panel as floats.
template <class Kind>
void pack_row_of(const float* x, int64_t depth, void* out) {
  static_assert(sizeof(Kind) <= few_rows::kGroupBytes);
  auto* groups = static_cast<Kind*>(out);
  for (int64_t g = 0; g < depth / kQuantGroup; ++g) {
    Group group;
    quantize(x + g * kQuantGroup, kQuantGroup, 1.0f, kLimits[Kind::kBytes], &group);
    groups[g].set(group);
  }
}

TOOLKIT_INLINE Column parameters_at(const uint16_t* halves) {
  __builtin_prefetch(reinterpret_cast<const char*>(halves) + kAheadBytes);
  return load_halves(halves);
}

template <class Kind, int kBits, bool kOffset>
void panel_of(const QuantizedMatrix& w, int64_t panel, const Kind* row, float* y) {
  constexpr int64_t kCodes = kQuantGroup * 2 * kBits;
  constexpr float kCentre = kBits == 4 ? 8.0f : 0.0f;
  const int64_t groups = w.depth / kQuantGroup, first = panel * groups * kPanel;
  const uint8_t* codes = w.codes + panel * w.panel_bytes();
  Column total = column_splat(0);
  for (int64_t g = 0; g < groups; ++g, codes += kCodes) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < kCodes; i += 64) __builtin_prefetch(codes + i + kAheadBytes);
    const Kind& group = row[g];
    const Column products = kBits == 4 ? group.times4(codes) : group.times8(codes);
    const int64_t at = first + g * kPanel;
    const Column scale = parameters_at(w.scale + at);
    Column offset = column_splat(0);
    if constexpr (kOffset) offset = parameters_at(w.offset + at);
    const Floats factor = splat(group.scale), sum = splat(group.sum);
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) {
      Floats part;
      if constexpr (kOffset) {
        const Floats shift = fused(splat(kCentre), scale.v[i], offset.v[i]);
        part = fused(products.v[i], scale.v[i], sum * shift);
      } else {
        part = products.v[i] * scale.v[i];
      }
      total.v[i] = fused(factor, part, total.v[i]);
    }
  }
  store(y, total);
}

template <class Kind>
void multiply_panel_of(const QuantizedMatrix& w, int64_t panel, const void* row, float* y) {
  const auto* groups = static_cast<const Kind*>(row);
  const bool offset = w.offset != nullptr;
  if (w.bits == 4) {
    (offset ? panel_of<Kind, 4, true> : panel_of<Kind, 4, false>)(w, panel, groups, y);
  } else {
    (offset ? panel_of<Kind, 8, true> : panel_of<Kind, 8, false>)(w, panel, groups, y);
  }
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
