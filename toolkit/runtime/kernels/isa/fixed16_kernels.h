// The micro-kernels: rows of a left operand times a packed stretch (see fixed16.h).
#pragma once

#if defined(TOOLKIT_DOTPROD)
#include "kernels/isa/fixed16_bytes.h"
#else
#include "kernels/isa/fixed16_pairs.h"
#endif

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

template <int kRows, int kVectors>
TOOLKIT_INLINE void start(const float* out, int64_t stride, bool accumulate,
                          Floats (&sums)[kRows][kVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = accumulate ? load(out + r * stride + v * kLanes) : Floats{};
    }
  }
}

template <int kRows, int kVectors>
TOOLKIT_INLINE void finish(const Floats (&sums)[kRows][kVectors], float* out, int64_t stride) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(out + r * stride + v * kLanes, sums[r][v]);
  }
}

/// sums[r][v] += left[r] right[v].
template <int kRows, int kVectors>
TOOLKIT_INLINE void add_products(const float* left, const float* right,
                                 Floats (&sums)[kRows][kVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const Floats factor = splat(left[r]);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = fused(factor, load(right + v * kLanes), sums[r][v]);
    }
  }
}

/// What a micro-kernel of x Wᵀ goes through without returning: `steps` times its rows of each of
/// `blocks` blocks, and where their results go.
struct Extent {
  int64_t blocks;
  int64_t steps;
  float* out;
  int64_t stride;
  bool accumulate;
};

/// A left operand from row `row` of a block on.
TOOLKIT_INLINE LeftGroups from_row(const LeftGroups& left, int64_t row) {
  return {left.q + row * kQuantGroup, left.scale + row, left.total + row, left.next};
}

/// Rows of y (+)= x Wᵀ.
template <int kRows, int kVectors, bool kOffset>
TOOLKIT_INLINE void forward(const LeftGroups& left, const RightGroups& right, float* out,
                            int64_t stride, bool accumulate) {
  const int64_t width = kVectors < kVectorsTogether ? kVectors * kLanes : kGroup;
  Floats sums[kRows][kVectors];
  start(out, stride, accumulate, sums);
  if constexpr (kOffset) {
    for (int64_t g = 0; g < right.groups; ++g) {
      add_products(left.total + g * kBlock, right.shift + g * width, sums);
    }
  }
  const char* next = reinterpret_cast<const char*>(left.q) + left.next;
  for (int64_t g = 0; g < right.groups; ++g) {
    Floats products[kRows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {  // too far for the processor to guess
      __builtin_prefetch(next + (g * kBlock + r) * kQuantGroup * 2);
    }
    multiply_panel(left.q + g * kBlock * kQuantGroup, right.codes + g * panel_bytes(width),
                   products);
    const float* scale = right.scale + g * width;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats factor = splat(left.scale[g * kBlock + r]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const Floats part = products[r][v] * load(scale + v * kLanes);
        sums[r][v] = fused(factor, part, sums[r][v]);
      }
    }
  }
  finish(sums, out, stride);
}

/// Rows of y (+)= x Wᵀ, over all of an extent (with bytes a block): what a call begins with would
/// take a tenth of it.
template <int kRows, int kVectors, bool kOffset>
void forward_through(const LeftGroups& left, const RightGroups& right, const Extent& extent) {
  for (int64_t b = 0; b < extent.blocks; ++b) {
    const LeftGroups block = left.after(b);
    float* out = extent.out + b * kBlock * extent.stride;
    for (int64_t row = 0; row < extent.steps * kRows; row += kRows) {
      forward<kRows, kVectors, kOffset>(from_row(block, row), right, out + row * extent.stride,
                                        extent.stride, extent.accumulate);
    }
  }
}

/// Rows of dx (+)= dy W, dy as `scale_block` makes it.
template <int kRows, int kVectors>
void backward(const LeftGroups& left, const RightGroups& right, float* out, int64_t stride,
              bool accumulate) {
  const int64_t width = kVectors < kVectorsTogether ? kVectors * kLanes : kGroup;
  Floats sums[kRows][kVectors];
  start(out, stride, accumulate, sums);
  for (int64_t g = 0; g < right.groups; ++g) {
    Floats products[kRows][kVectors];
    multiply_panel(left.q + g * kBlock * kQuantGroup, right.codes + g * panel_bytes(width),
                   products);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats factor = splat(left.scale[g * kBlock + r]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = fused(factor, products[r][v], sums[r][v]);
      }
    }
  }
  if (right.offset) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats shift = splat(left.total[r]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[r][v] = sums[r][v] + shift;
    }
  }
  finish(sums, out, stride);
}

/// The micro-kernels for so many rows.
struct MicroKernels {
  void (*forward)(const LeftGroups&, const RightGroups&, const Extent&);
  void (*backward)(const LeftGroups&, const RightGroups&, float*, int64_t, bool);
};

template <int kVectors, bool kOffset>
const MicroKernels& kernels_for_rows(int64_t rows) {
#define TOOLKIT_KERNEL(rows)                                           \
  {                                                                    \
    forward_through<rows, kVectors, kOffset>, backward<rows, kVectors> \
  }
  static constexpr MicroKernels kTable[] = {
      TOOLKIT_KERNEL(1), TOOLKIT_KERNEL(2),
#if TOOLKIT_LANES >= 8 || defined(TOOLKIT_ISA_IS_NEON)
      TOOLKIT_KERNEL(3),
#endif
#if TOOLKIT_LANES == 16 || defined(TOOLKIT_DOTPROD)
      TOOLKIT_KERNEL(4), TOOLKIT_KERNEL(5), TOOLKIT_KERNEL(6),
#endif
  };
#undef TOOLKIT_KERNEL
  static_assert(sizeof(kTable) / sizeof(kTable[0]) == kStep);
  return kTable[rows - 1];
}

template <int kVectors>
const MicroKernels& kernels_for(int64_t rows, bool offset) {
  return offset ? kernels_for_rows<kVectors, true>(rows) : kernels_for_rows<kVectors, false>(rows);
}

const MicroKernels& choose_kernels(int64_t rows, int64_t width, bool offset) {
  if constexpr (kGroup > kPanel) {
    if (width == kPanel) return kernels_for<kParts>(rows, offset);
  }
  return kernels_for<kVectorsTogether>(rows, offset);
}

}  // namespace
}  // namespace TOOLKIT_ISA
}  // namespace toolkit
