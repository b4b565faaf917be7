// The micro-kernel and the loops around it (see gemm.h).
#include "kernels/isa/gemm.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

/// A stretch of the depth of one term, ready for the micro-kernel.
struct Segment {
  const float* left;   // first row block
  int64_t left_block;  // floats from one row block to the next
  const float* right;
  int64_t right_stride;
  int64_t depth;
};

constexpr int kMaxSegments = 2 * kMaxTerms;

constexpr int64_t kBufferFloats = float32::buffer_floats(kTiles);

struct Segments {
  Segment list[kMaxSegments];
  int count = 0;
};

/// A stretch of the depth of a chain's terms of one number, and where in the buffer it has room.
struct Stretch {
  int term;
  int64_t depth0, depth;
  float* room;
  const Right* held = nullptr;  // what was packed there
};

struct Stretches {
  Stretch list[kMaxSegments];
  int count = 0;
};

// How far ahead operands are fetched: processors do it by themselves only within a page of 4 KiB,
// and what another core has written takes longest.
constexpr int64_t kLeftAhead = 512;  // floats
constexpr int64_t kRightAhead = 8;   // rows

/// One column of a left block: kBlock floats, each to be multiplied with a vector.
#if defined(TOOLKIT_ISA_IS_NEON)
// Multiplying by an element needs two loads, where broadcasts would need six that in-order cores
// wait for.
struct LeftColumn {
  float32x4_t low, high;  // elements 0 to 3, and 2 to 5

  TOOLKIT_INLINE explicit LeftColumn(const float* left)
      : low(vld1q_f32(left)), high(vld1q_f32(left + 2)) {}
  /// sum + r times element i, which is a constant after unrolling.
  TOOLKIT_INLINE Floats multiply(int i, Floats r, Floats sum) const {
    switch (i) {
      case 0:
        return vfmaq_laneq_f32(sum, r, low, 0);
      case 1:
        return vfmaq_laneq_f32(sum, r, low, 1);
      case 2:
        return vfmaq_laneq_f32(sum, r, low, 2);
      case 3:
        return vfmaq_laneq_f32(sum, r, low, 3);
      case 4:
        return vfmaq_laneq_f32(sum, r, high, 2);
      default:
        return vfmaq_laneq_f32(sum, r, high, 3);
    }
  }
};
#else
struct LeftColumn {
  const float* left;

  TOOLKIT_INLINE explicit LeftColumn(const float* left) : left(left) {}
  template <typename V>
  TOOLKIT_INLINE V multiply(int i, V r, V sum) const {
    return sum + (left[i] - V{}) * r;
  }
};
#endif

/// Columns that are computed where a product has no more: a low-rank product of rank 8 would waste
/// half of a panel. Every column is summed as it would be in the panel.
constexpr int64_t kNarrow = kPanel / 2;
#if TOOLKIT_LANES == 16
typedef float NarrowFloats __attribute__((vector_size(4 * kNarrow)));
#else
typedef Floats NarrowFloats;
#endif
constexpr int kNarrowVectors = 4 * kNarrow / sizeof(NarrowFloats);

/// out [kRows, kVectors of V] (+)= sum over segments; accumulators never leave their registers.
template <int kRows, int kVectors, typename V>
void micro_kernel(const Segments& segments, int64_t block, float* out, int64_t stride,
                  bool accumulate) {
  constexpr int kWide = sizeof(V) / sizeof(float);
  V sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) sums[i][j] = V{};
  }
  if (accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      for (int j = 0; j < kVectors * kWide; j += 16) __builtin_prefetch(out + i * stride + j, 1);
    }
  }
  for (int s = 0; s < segments.count; ++s) {
    const Segment& segment = segments.list[s];
    const float* left = segment.left + block * segment.left_block;
    const float* right = segment.right;
    const int64_t right_stride = segment.right_stride;
    for (int64_t k = segment.depth; k > 0; --k) {
      V r[kVectors];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) r[j] = load<V>(right + j * kWide);
      __builtin_prefetch(left + kLeftAhead);
      for (int j = 0; j < kVectors * kWide; j += 16) {
        __builtin_prefetch(right + kRightAhead * right_stride + j);
      }
      const LeftColumn column(left);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) sums[i][j] = column.multiply(i, r[j], sums[i][j]);
      }
      left += kBlock;
      right += right_stride;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      float* at = out + i * stride + j * kWide;
      store(at, accumulate ? load<V>(at) + sums[i][j] : sums[i][j]);
    }
  }
}

using MicroKernel = void (*)(const Segments&, int64_t, float*, int64_t, bool);

template <int kVectors, typename V = Floats>
MicroKernel kernel_for_rows(int64_t rows) {
  static constexpr MicroKernel kTable[] = {
      micro_kernel<1, kVectors, V>,  micro_kernel<2, kVectors, V>,  micro_kernel<3, kVectors, V>,
      micro_kernel<4, kVectors, V>,
#if TOOLKIT_LANES >= 8 || defined(TOOLKIT_ISA_IS_NEON)
      micro_kernel<5, kVectors, V>,  micro_kernel<6, kVectors, V>,
#endif
#if TOOLKIT_LANES == 16
      micro_kernel<7, kVectors, V>,  micro_kernel<8, kVectors, V>,  micro_kernel<9, kVectors, V>,
      micro_kernel<10, kVectors, V>, micro_kernel<11, kVectors, V>, micro_kernel<12, kVectors, V>,
#endif
  };
  return kTable[rows - 1];
}

MicroKernel choose_kernel(int64_t rows, int64_t width) {
  if (width == kNarrow) return kernel_for_rows<kNarrowVectors, NarrowFloats>(rows);
  if constexpr (kGroup > kPanel) {
    if (width == kPanel) return kernel_for_rows<kParts>(rows);
  }
  return kernel_for_rows<kGroup / kLanes>(rows);
}

/// Runs the micro-kernel on blocks [block0, block1); partial columns and transposed results go
/// through a tile on the stack.
void run_blocks(const Product& product, const Segments& segments, int64_t column, int64_t columns,
                int64_t block0, int64_t block1, bool accumulate) {
  const int64_t width = columns <= kNarrow ? kNarrow : round_up(columns, kPanel);
  alignas(64) float tile[kBlock * kGroup];
  for (int64_t block = block0; block < block1; ++block) {
    const int64_t row = block * kBlock, rows = min(kBlock, product.rows - row);
    float* out = product.out + row * product.stride + column;
    const MicroKernel kernel = choose_kernel(rows, width);
    if (columns == width && !product.transposed) {
      kernel(segments, block, out, product.stride, accumulate);
      continue;
    }
    kernel(segments, block, tile, width, false);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        float* at = product.transposed ? product.out + (column + j) * product.stride + row + i
                                       : out + i * product.stride + j;
        *at = accumulate ? *at + tile[i * width + j] : tile[i * width + j];
      }
    }
  }
}

/// Whether the micro-kernel can read the operand where it lies: full columns, and too few row
/// blocks to repay a copy.
bool readable_in_place(const Right& right, int64_t columns, int64_t width, int64_t blocks) {
  return right.kind == Right::kPlain && columns == width && blocks <= 2;
}

bool is_same(const Right& a, const Right& b) {
  return a.kind == b.kind && a.weight == b.weight && a.data == b.data && a.stride == b.stride &&
         a.depth0 == b.depth0 && a.column0 == b.column0;
}

/// A product's part of the stretches for so many row blocks; right operands are packed unless the
/// buffer has them from the product before.
Segments segments_of(const Product& product, Stretches& stretches, int64_t column, int64_t columns,
                     int64_t blocks) {
  const int64_t width = round_up(columns, kPanel);
  Segments segments;
  for (int i = 0; i < stretches.count; ++i) {
    Stretch& stretch = stretches.list[i];
    const Term& term = product.terms[stretch.term];
    const Right& r = term.right;
    Segment& segment = segments.list[segments.count++];
    segment = {static_cast<const float*>(term.left.data) + stretch.depth0 * kBlock,
               term.left.depth * kBlock, stretch.room, width, stretch.depth};
    if (readable_in_place(r, columns, width, blocks)) {
      segment.right = r.data + (r.depth0 + stretch.depth0) * r.stride + r.column0 + column;
      segment.right_stride = r.stride;
    } else if (r.kind == Right::kPacked) {
      // The stored group may be wider than the part of it this product asks for.
      const int64_t first = r.column0 + column;
      segment.right_stride = round_up(min(kGroup, r.columns - first), kPanel);
      segment.right = static_cast<const float*>(r.packed) + first * r.stride +
                      (r.depth0 + stretch.depth0) * segment.right_stride;
    } else if (stretch.held == nullptr || !is_same(*stretch.held, r)) {
      pack_group(r, column, columns, stretch.depth0, stretch.depth, width, 1.0f, stretch.room);
      stretch.held = &r;
    }
  }
  return segments;
}

/// What the stretches give row blocks [block0, block1) of a chain.
void run_chain(const Product& first, Stretches& stretches, int64_t column, int64_t columns,
               int64_t block0, int64_t block1, bool accumulate) {
  for (const Product* p = &first; p != nullptr; p = p->next) {
    const int64_t blocks = divide_up(p->rows, kBlock);
    const int64_t from = max(block0, 0), to = min(block1, blocks);
    if (from < to) {
      const Segments segments = segments_of(*p, stretches, column, columns, to - from);
      run_blocks(*p, segments, column, columns, from, to, accumulate);
    }
    block0 -= blocks;
    block1 -= blocks;
  }
}

void multiply_group(const Product& first, int64_t group, int64_t block0, int64_t block1,
                    void* buffer) {
  const int64_t column = group * kGroup, columns = min(kGroup, first.columns - column);
  const int64_t width = round_up(columns, kPanel);
  bool accumulate = first.accumulate;
  Stretches stretches;
  int64_t used = 0;  // depth of the stretches, in place or in the buffer
  for (int t = 0; t < first.count; ++t) {
    const int64_t depth = first.terms[t].left.depth, step = depth_step(depth, kTiles.depth);
    const bool packed = first.terms[t].right.kind == Right::kPacked;
    for (int64_t k = 0; k < depth; k += step) {
      const int64_t count = min(step, depth - k);
      // What is read in place counts too: where sums are rounded must not depend on how row blocks
      // are shared out.
      const bool full = !packed && (used + count) * width > kBufferFloats;
      if (full || stretches.count == kMaxSegments) {
        run_chain(first, stretches, column, columns, block0, block1, accumulate);
        accumulate = true;
        stretches.count = 0;
        used = 0;
      }
      stretches.list[stretches.count++] = {t, k, count, static_cast<float*>(buffer) + used * width};
      if (!packed) used += count;
    }
  }
  run_chain(first, stretches, column, columns, block0, block1, accumulate);
}

}  // namespace

void multiply_groups(const Product& product, int64_t group, int64_t groups, int64_t block0,
                     int64_t block1, void* buffer) {
  for (int64_t i = 0; i < groups; ++i) multiply_group(product, group + i, block0, block1, buffer);
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
