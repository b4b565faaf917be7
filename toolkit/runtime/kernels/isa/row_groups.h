// A row as whole numbers, times panels of 16 rows of W where those lie: fixed16 for a few rows, and
// float32 where bytes are multiplied much faster than floats.
//
// For a group of 32, as in fixed16.h, with codes of int4 centred:
//
//   y[n] += scale (ws[n] (q · c[n])) + (scale Σ q) wo[n]
//
// q of fixed16 has 16 bits, and y the bits of packed products: the offsets of a stretch of groups
// are added before its products. For float32 q has three signed bytes: what is rounded is 2^-24 of
// the largest of 32 neighbours, less than sums of floats round. A group's products are exact; as a
// float they are rounded once, of int8 codes with three bytes for each part of the sum as well.
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
  static_assert(kLimits[Kind::kBytes] < kMostNearest);
  auto* groups = static_cast<Kind*>(out);
  // Other cores have just written much of it: then all of it comes at once.
  for (int64_t k = 0; k < depth; k += 16) __builtin_prefetch(x + k);
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

/// totals += what the offsets of `count` groups add, whose parameters are from `at` on.
template <class Kind, int kRows>
TOOLKIT_INLINE void add_offsets(const QuantizedMatrix& w, int64_t at, int64_t count, float centre,
                                const Kind* const (&rows)[kRows], Column (&totals)[kRows]) {
  for (int64_t g = 0; g < count; ++g, at += kPanel) {
    const Column scale = load_halves(w.scale + at), offset = parameters_at(w.offset + at);
#pragma GCC unroll 4
    for (int i = 0; i < kParts; ++i) {
      const Floats shift = fused(splat(centre), scale.v[i], offset.v[i]);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const Floats total = splat(rows[r][g].scale * rows[r][g].sum);
        totals[r].v[i] = fused(total, shift, totals[r].v[i]);
      }
    }
  }
}

/// Of kRows rows, `stride` apart in y; codes and parameters are read once for them.
template <class Kind, int kBits, bool kOffset, int kRows>
void panel_of(const QuantizedMatrix& w, int64_t panel, const Kind* const* rows, float* y,
              int64_t stride) {
  constexpr int64_t kCodes = kQuantGroup * 2 * kBits;
  constexpr float kCentre = kBits == 4 ? 8.0f : 0.0f;
  const int64_t groups = w.depth / kQuantGroup, first = panel * groups * kPanel;
  const uint8_t* codes = w.codes + panel * w.panel_bytes();
  Column totals[kRows];
  for (Column& total : totals) total = column_splat(0);
  for (int64_t g = 0; g < groups; ++g, codes += kCodes) {
    const Kind* group[kRows];
    for (int r = 0; r < kRows; ++r) group[r] = rows[r] + g;
    if (kOffset && g % kStretch == 0) {
      add_offsets(w, first + g * kPanel, min(kStretch, groups - g), kCentre, group, totals);
    }
#pragma GCC unroll 8
    for (int64_t i = 0; i < kCodes; i += 64) __builtin_prefetch(codes + i + kAheadBytes);
    Column products[kRows];
    if constexpr (kBits == 4) {
      Kind::times4(group, codes, products);
    } else {
      Kind::times8(group, codes, products);
    }
    const Column scale = parameters_at(w.scale + first + g * kPanel);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Floats factor = splat(group[r]->scale);
#pragma GCC unroll 4
      for (int i = 0; i < kParts; ++i) {
        totals[r].v[i] = fused(factor, products[r].v[i] * scale.v[i], totals[r].v[i]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) store(y + r * stride, totals[r]);
}

template <class Kind, int kRows>
void rows_of(const QuantizedMatrix& w, int64_t panel, const Kind* const* rows, float* y,
             int64_t stride) {
  const bool offset = w.offset != nullptr;
  if (w.bits == 4) {
    (offset ? panel_of<Kind, 4, true, kRows> : panel_of<Kind, 4, false, kRows>)(w, panel, rows, y,
                                                                                stride);
  } else {
    (offset ? panel_of<Kind, 8, true, kRows> : panel_of<Kind, 8, false, kRows>)(w, panel, rows, y,
                                                                                stride);
  }
}

template <class Kind>
void multiply_panel_of(const QuantizedMatrix& w, int64_t panel, const void* packed, int64_t count,
                       float* y, int64_t stride) {
  const int64_t bytes = w.depth / kQuantGroup * few_rows::kGroupBytes;
  const auto* at = static_cast<const char*>(packed);
  const auto row = [&](int64_t r) { return reinterpret_cast<const Kind*>(at + r * bytes); };
  int64_t r = 0;
  if constexpr (Kind::kTogether == 4) {
    for (; r + 4 <= count; r += 4) {
      const Kind* const rows[] = {row(r), row(r + 1), row(r + 2), row(r + 3)};
      rows_of<Kind, 4>(w, panel, rows, y + r * stride, stride);
    }
  }
  for (; r + 2 <= count; r += 2) {
    const Kind* const rows[] = {row(r), row(r + 1)};
    rows_of<Kind, 2>(w, panel, rows, y + r * stride, stride);
  }
  if (r < count) {
    const Kind* const rows[] = {row(r)};
    rows_of<Kind, 1>(w, panel, rows, y + r * stride, stride);
  }
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
