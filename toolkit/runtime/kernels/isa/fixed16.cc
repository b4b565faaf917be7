// The loops around the micro-kernels (see fixed16.h).
#include "kernels/isa/fixed16_kernels.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

/// A block of dy with the weights' scales in it, for one packed stretch.
struct ScaledBlock {
  alignas(64) int16_t q[kStretch * kBlock * kQuantGroup];
  float factor[kStretch * kBlock];  // of the sums of a group
  float shift[kBlock];              // what the offsets add to all columns
};

/// Σ of 16, by halves.
TOOLKIT_INLINE float folded(const Floats (&parts)[kParts]) {
  Floats sums[kParts];
  for (int i = 0; i < kParts; ++i) sums[i] = parts[i];
#pragma GCC unroll 4
  for (int half = kParts / 2; half > 0; half /= 2) {
#pragma GCC unroll 4
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return tree_sum(sums[0]);
}

/// Scales kRows rows of a block, side by side: their sums are in registers.
template <int kRows, bool kOffset>
void scale_rows_of(const LeftGroups& left, const RightGroups& right, ScaledBlock* to) {
  Floats parts[kRows][kParts] = {};
  for (int64_t g = 0; g < right.groups; ++g) {
    const int64_t at = g * kBlock;
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      __builtin_prefetch(left.q + (at + kBlock + r) * kQuantGroup);
    }
    scale_rows(left.q + at * kQuantGroup, right.ratio + g * kQuantGroup, kRows,
               to->q + at * kQuantGroup);
    const float *scale = left.scale + at, largest = right.largest[g];
    float factors[kRows], shifts[kRows];
    for (int r = 0; r < kRows; ++r) {
      factors[r] = scale[r] * largest;
      if (kOffset) shifts[r] = scale[r] * right.shift_largest[g];
    }
    __builtin_memcpy(to->factor + at, factors, sizeof(factors));
#pragma GCC unroll 12
    for (int r = 0; kOffset && r < kRows; ++r) {
      add_row(left.q + at * kQuantGroup, r, right.shift_ratio + g * kQuantGroup, shifts[r],
              parts[r]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; kOffset && r < kRows; ++r) to->shift[r] = folded(parts[r]);
}

/// Scales the first rows of a block.
LeftGroups scale_block(const LeftGroups& left, const RightGroups& right, int64_t rows,
                       ScaledBlock* to) {
  constexpr int kHalf = kBlock / 2;
  if (rows > kHalf) {
    (right.offset ? scale_rows_of<kBlock, true> : scale_rows_of<kBlock, false>)(left, right, to);
  } else {
    (right.offset ? scale_rows_of<kHalf, true> : scale_rows_of<kHalf, false>)(left, right, to);
  }
  return {to->q, to->factor, to->shift, 0};
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

/// Calls body(part of the panel, its first column).
template <class Body>
TOOLKIT_INLINE void each_part(const RightGroups& right, Body body) {
  constexpr int64_t kColumns = kVectorsTogether * kLanes;
  RightGroups part = right;
  for (int64_t column = 0; column < right.width; column += kColumns) {
    body(part, column);
    part.codes += kPartBytes;
    part.scale += kColumns;
    part.shift += kColumns;
  }
}

/// `steps` times `rows` rows of each block.
void run_forward_rows(const LeftGroups& left, const RightGroups& right, int64_t rows,
                      Extent extent) {
  const auto kernel = choose_kernels(rows, right.width, right.offset).forward;
  float* const out = extent.out;
  each_part(right, [&](const RightGroups& part, int64_t column) {
    extent.out = out + column;
    kernel(left, part, extent);
  });
}

/// Blocks of x for a packed stretch; extent: from the first block and the stretch's column on.
void run_forward(const LeftGroups& left, const Stretch& stretch, int64_t rows, Extent extent) {
  // Blocks that stay in the L2 cache for all columns, or where a panel has parts in the L1 cache.
  constexpr int64_t kAtOnce = kVectorsTogether * kLanes < kGroup ? 1 : 16;
  float* const out = extent.out;
  for (int64_t block = 0; block * kBlock < rows; block += extent.blocks) {
    const int64_t rest = rows - block * kBlock, count = min(kBlock, rest);
    const int64_t steps = count / kStep, whole = steps * kStep;
    extent.blocks = min(max(rest / kBlock, 1), kAtOnce);
    for (int64_t i = 0; i < stretch.count; ++i) {
      extent.out = out + block * kBlock * extent.stride + i * kGroup;
      extent.steps = steps;
      if (steps > 0) run_forward_rows(left.after(block), stretch.right[i], kStep, extent);
      if (count == whole) continue;
      extent.out += whole * extent.stride;
      extent.steps = 1;
      run_forward_rows(from_row(left.after(block), whole), stretch.right[i], count - whole, extent);
    }
  }
}

/// The same of dy, block by block.
void run_backward(const LeftGroups& left, const Stretch& stretch, int64_t rows, Extent extent) {
  ScaledBlock scaled;
  for (int64_t block = 0; block * kBlock < rows; ++block) {
    const int64_t count = min(kBlock, rows - block * kBlock);
    LeftGroups from{};
    for (int64_t i = 0; i < stretch.count; ++i) {
      const RightGroups& right = stretch.right[i];
      if (i == 0 || !stretch.shared) from = scale_block(left.after(block), right, count, &scaled);
      float* const out = extent.out + block * kBlock * extent.stride + i * kGroup;
      for (int64_t row = 0; row < count; row += kStep) {
        const auto kernel =
            choose_kernels(min(kStep, count - row), right.width, right.offset).backward;
        each_part(right, [&](const RightGroups& part, int64_t column) {
          kernel(from_row(from, row), part, out + row * extent.stride + column, extent.stride,
                 extent.accumulate);
        });
      }
    }
  }
}

/// What a packed stretch of term `t` from depth k on gives row blocks [block0, block1) of a chain.
void run_chain(const Product& first, int t, int64_t k, const Stretch& stretch, int64_t column,
               int64_t block0, int64_t block1, bool accumulate) {
  for (const Product* p = &first; p != nullptr; p = p->next) {
    const Left& left = p->terms[t].left;
    const int64_t blocks = divide_up(p->rows, kBlock);
    const int64_t begin = max(block0, 0), end = min(block1, blocks);
    if (begin < end) {
      const Extent extent{1, 1, p->out + begin * kBlock * p->stride + column, p->stride,
                          accumulate};
      (stretch.transposed ? run_backward : run_forward)(
          groups_of(left.data, left.depth, begin, k / kQuantGroup), stretch,
          min(end * kBlock, p->rows) - begin * kBlock, extent);
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
