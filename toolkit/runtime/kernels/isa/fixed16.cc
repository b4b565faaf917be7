// The micro-kernels and the loops around them (see fixed16.h).
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

/// Rows of y (+)= x Wᵀ.
template <int kRows, int kVectors, bool kOffset>
void forward(const LeftGroups& left, const RightGroups& right, float* out, int64_t stride,
             bool accumulate) {
  const int64_t width = kVectors < kVectorsTogether ? kVectors * kLanes : kGroup;
  Floats sums[kRows][kVectors];
  start(out, stride, accumulate, sums);
  for (int64_t g = 0; g < right.groups; ++g) {
    Floats products[kRows][kVectors];
    multiply_panel(left.q + g * kBlock * kQuantGroup, right.codes + g * panel_bytes(width),
                   products);
    const float *scale = right.scale + g * width, *shift = right.shift + g * width;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats factor = splat(left.scale[g * kBlock + r]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const Floats product = products[r][v];
        Floats part;
        if constexpr (kOffset) {
          const Floats shifted = splat(left.total[g * kBlock + r]) * load(shift + v * kLanes);
          part = fused(product, load(scale + v * kLanes), shifted);
        } else {
          part = product * load(scale + v * kLanes);
        }
        sums[r][v] = fused(factor, part, sums[r][v]);
      }
    }
  }
  finish(sums, out, stride);
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

/// A block of dy with the weights' scales in it, for one packed stretch.
struct ScaledBlock {
  alignas(64) int16_t q[kStretch * kBlock * kQuantGroup];
  float factor[kStretch * kBlock];  // of the sums of a group
  float shift[kBlock];              // what the offsets add to all columns
};

/// Σ of 16, by halves.
TOOLKIT_INLINE float folded(const Floats (&parts)[kParts]) {
  float partial[16];
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) store(partial + i * kLanes, parts[i]);
#pragma GCC unroll 4
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) partial[i] += partial[i + half];
  }
  return partial[0];
}

/// Scales the first rows of a block.
LeftGroups scale_block(const LeftGroups& left, const RightGroups& right, int64_t rows,
                       ScaledBlock* to) {
  for (int64_t g = 0; g < right.groups; ++g) {
    const int64_t at = g * kBlock;
    scale_rows(left.q + at * kQuantGroup, right.ratio + g * kQuantGroup, rows,
               to->q + at * kQuantGroup);
    for (int64_t r = 0; r < rows; ++r) {
      to->factor[at + r] = left.scale[at + r] * right.largest[g];
    }
  }
  for (int64_t r = 0; right.offset && r < rows; ++r) {
    Floats parts[kParts] = {};
    for (int64_t g = 0; g < right.groups; ++g) {
      const int64_t at = g * kBlock;
      add_row(left.q + at * kQuantGroup, static_cast<int>(r), right.shift_ratio + g * kQuantGroup,
              left.scale[at + r] * right.shift_largest[g], parts);
    }
    to->shift[r] = folded(parts);
  }
  return {to->q, to->factor, to->shift};
}

using MicroKernel = void (*)(const LeftGroups&, const RightGroups&, float*, int64_t, bool);

template <int kVectors, bool kOffset>
MicroKernel kernel_for_rows(int64_t rows, bool transposed) {
#define TOOLKIT_KERNEL(rows)                                   \
  {                                                            \
    forward<rows, kVectors, kOffset>, backward<rows, kVectors> \
  }
  static constexpr MicroKernel kTable[][2] = {
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
  return kTable[rows - 1][transposed];
}

template <int kVectors>
MicroKernel kernel_for(int64_t rows, bool transposed, bool offset) {
  return offset ? kernel_for_rows<kVectors, true>(rows, transposed)
                : kernel_for_rows<kVectors, false>(rows, transposed);
}

MicroKernel choose_kernel(int64_t rows, int64_t width, bool transposed, bool offset) {
  if constexpr (kGroup > kPanel) {
    if (width == kPanel) return kernel_for<kParts>(rows, transposed, offset);
  }
  return kernel_for<kVectorsTogether>(rows, transposed, offset);
}

constexpr int64_t kTogether = groups_together(kTiles);

/// Room for a stretch in a thread's buffer.
RightGroups right_groups(void* buffer, int64_t width, int64_t depth, bool offset) {
  RightGroups right{};
  right.codes = static_cast<char*>(buffer);
  right.width = width;
  right.offset = offset;
  right.groups = divide_up(depth, kQuantGroup);
  char* at = right.codes + kStretch * panel_bytes(kGroup);
  right.scale = reinterpret_cast<float*>(at);
  right.shift = right.scale + kStretch * width;
  right.ratio = reinterpret_cast<int16_t*>(at);
  right.shift_ratio = right.ratio + kStretch * kQuantGroup;
  right.largest = reinterpret_cast<float*>(right.shift_ratio + kStretch * kQuantGroup);
  right.shift_largest = right.largest + kStretch;
  return right;
}

/// A stretch of column groups that lie side by side.
struct Stretch {
  RightGroups right[kTogether];
  int64_t count = 0;
  bool shared = false;  // the ratios of the first are those of all
  bool transposed = false;

  /// Packs features, or rows, [k, k + depth) of a right operand from column group `group` on.
  Stretch(const Product& product, const Right& source, int64_t group, int64_t groups, int64_t k,
          int64_t depth, char* buffer)
      : count(groups), transposed(source.kind == Right::kWeightColumns) {
    constexpr int64_t kBytes = fixed16::buffer_bytes_of_group(kTiles);
    const QuantizedMatrix& w = *source.weight;
    const int64_t column = source.column0 + group * kGroup;
    shared = column / kQuantGroup == (column + groups * kGroup - 1) / kQuantGroup;
    for (int64_t i = 0; i < groups; ++i) {
      const int64_t first = (group + i) * kGroup, width = min(kGroup, product.columns - first);
      right[i] = right_groups(buffer + i * kBytes, width, depth, w.offset != nullptr);
      if (transposed) {
        pack_weight_columns(w, source.column0 + first, source.depth0 + k, depth, &right[i]);
      } else {
        pack_weight_rows(w, source.column0 + first, source.depth0 + k, &right[i]);
      }
    }
  }
};

/// Rows of a micro-kernel, part by part of a panel.
void run_rows(const LeftGroups& left, const RightGroups& right, int64_t rows, bool transposed,
              float* out, int64_t stride, bool accumulate) {
  constexpr int64_t kColumns = kVectorsTogether * kLanes;
  const MicroKernel kernel = choose_kernel(rows, right.width, transposed, right.offset);
  RightGroups part = right;
  for (int64_t column = 0; column < right.width; column += kColumns) {
    kernel(left, part, out + column, stride, accumulate);
    part.codes += kPartBytes;
    part.scale += kColumns;
    part.shift += kColumns;
  }
}

/// Every row of a block for a packed stretch; out: the block's first row and the stretch's column.
void run_block(const LeftGroups& left, const Stretch& stretch, int64_t rows, float* out,
               int64_t stride, bool accumulate) {
  ScaledBlock scaled;
  LeftGroups block = left;
  for (int64_t i = 0; i < stretch.count; ++i) {
    const RightGroups& right = stretch.right[i];
    if (stretch.transposed && (i == 0 || !stretch.shared)) {
      block = scale_block(left, right, rows, &scaled);
    }
    for (int64_t row = 0; row < rows; row += kStep) {
      const int64_t count = min(kStep, rows - row);
      const LeftGroups from{block.q + row * kQuantGroup, block.scale + row, block.total + row};
      run_rows(from, right, count, stretch.transposed, out + row * stride + i * kGroup, stride,
               accumulate);
    }
  }
}

/// What a packed stretch of term `t` from depth k on gives row blocks [block0, block1) of a chain.
void run_chain(const Product& first, int t, int64_t k, const Stretch& stretch, int64_t column,
               int64_t block0, int64_t block1, bool accumulate) {
  for (const Product* p = &first; p != nullptr; p = p->next) {
    const Left& left = p->terms[t].left;
    const int64_t blocks = divide_up(p->rows, kBlock);
    for (int64_t block = max(block0, 0); block < min(block1, blocks); ++block) {
      const int64_t row = block * kBlock;
      run_block(groups_of(left.data, left.depth, block, k / kQuantGroup), stretch,
                min(kBlock, p->rows - row), p->out + row * p->stride + column, p->stride,
                accumulate);
    }
    block0 -= blocks;
    block1 -= blocks;
  }
}

void multiply_fixed16(const Product& first, int64_t group, int64_t groups, int64_t block0,
                      int64_t block1, void* buffer) {
  constexpr int64_t kDepth = kStretch * kQuantGroup;
  bool accumulate = first.accumulate;
  for (int t = 0; t < first.count; ++t) {
    const int64_t depth = first.terms[t].left.depth;
    for (int64_t k = 0; k < depth; k += kDepth) {
      const Stretch stretch(first, first.terms[t].right, group, groups, k, min(kDepth, depth - k),
                            static_cast<char*>(buffer));
      run_chain(first, t, k, stretch, group * kGroup, block0, block1, accumulate);
      accumulate = true;
    }
  }
}

}  // namespace

extern const Arithmetic fixed16_of;
const Arithmetic fixed16_of = {"fixed16",
                               kStretch * kQuantGroup,
                               fixed16::left_bytes,
                               fixed16::right_bytes,
                               fixed16::buffer_bytes,
                               pack_fixed16,
                               nullptr,
                               nullptr,
                               multiply_fixed16};

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
