// Matrix products C (+)= sum of L_i R_i: left operands packed, right operands packed panel by panel
// as they are needed (which is where quantized weights become floats), C row-major.
//
// Left:  blocks of kBlock rows; in a block, element (row i, depth k) at k * kBlock + i. Missing
// rows are 0. Right: groups of kGroup columns; in a group, element (depth k, column j) at k * width
// + j. A thread packs a group of columns for a stretch of the depth that fits its L2 cache, then
// runs the micro-kernel (kBlock x kGroup accumulators in registers) down all row blocks.
#pragma once

#include "kernels/isa/simd.h"

namespace toolkit {
namespace TOOLKIT_ISA {

// Micro-kernel shapes: as many accumulators as the registers hold beside one row of R and a
// broadcast.
#if TOOLKIT_LANES == 16
constexpr int kBlock = 12, kGroup = 32;
#elif TOOLKIT_LANES == 8
constexpr int kBlock = 6, kGroup = 16;
#elif defined(TOOLKIT_ISA_IS_NEON)
constexpr int kBlock = 6, kGroup = 16;
#else
constexpr int kBlock = 4, kGroup = 16;
#endif

constexpr int64_t kDepthBlock =
    1024;  // depth packed at a time: a group then takes 64 KiB (128 with 512 bits)
constexpr int64_t kMaxTerms = 4;
/// Depth of one packing step: equal parts of at most kDepthBlock, multiples of 32.
inline int64_t depth_step(int64_t depth, int64_t block = kDepthBlock) {
  const int64_t parts = divide_up(depth, block);
  return parts <= 1 ? depth : round_up(divide_up(depth, parts), 32);
}

/// Floats of a thread's buffer for packed right operands.
constexpr int64_t kRightFloats = (kDepthBlock + 32) * kGroup;

/// A strided fp32 matrix; element (i, j) at data[i * row_stride + j * column_stride].
struct View {
  const float* data;
  int64_t row_stride;
  int64_t column_stride;
};

struct Left {
  const float* data = nullptr;
  int64_t depth = 0;
};

inline int64_t left_floats(int64_t rows, int64_t depth) { return round_up(rows, kBlock) * depth; }

/// Packs row blocks [first, last) of scale * view [rows, depth] into out, which holds the whole
/// matrix.
void pack_left_blocks(const View& view, int64_t rows, int64_t depth, float scale, int64_t first,
                      int64_t last, float* out);

/// Packs all of it, in parallel where that pays.
Left pack_left(const View& view, int64_t rows, int64_t depth, float scale, float* out);

/// The right operand of a product, [depth, columns], from (row, column) = (depth0, column0) of its
/// source.
struct Right {
  enum Kind {
    kWeightRows,     // Wᵀ: columns are rows of W, depth its features
    kWeightColumns,  // W: depth are rows of W, columns its features
    kTransposed,     // data [columns, depth] with row stride `stride`
    kPlain,          // data [depth, columns] with row stride `stride`
    kPacked,         // packed before by pack_right_groups, `stride` deep
  };
  Kind kind = kPlain;
  const QuantizedMatrix* weight = nullptr;
  const float* data = nullptr;
  int64_t stride = 0;
  int64_t depth0 = 0;
  int64_t column0 = 0;  // multiple of 16 for weights, of kGroup when packed
  int64_t columns = 0;  // of the whole operand, when packed
};

Right weight_rows(const QuantizedMatrix& w, int64_t first_row = 0, int64_t first_feature = 0);
Right weight_columns(const QuantizedMatrix& w, int64_t first_row = 0, int64_t first_feature = 0);
Right transposed(const float* data, int64_t stride);
Right plain_right(const float* data, int64_t stride);

/// Floats of a right operand packed ahead of its use.
inline int64_t right_floats(int64_t depth, int64_t columns) {
  return round_up(columns, kPanel) * depth;
}
/// Packs groups [first, last) of all columns of `right` into out, for use as Right::kPacked.
void pack_right_groups(const Right& right, int64_t depth, int64_t columns, int64_t first,
                       int64_t last, float* out);
Right packed_right(const float* data, int64_t depth, int64_t columns, int64_t first_column = 0,
                   int64_t first_depth = 0);

struct Term {
  Left left;
  Right right;
};

struct Product {
  Term terms[kMaxTerms];
  int count = 0;
  int64_t rows = 0;
  int64_t columns = 0;
  float* out = nullptr;
  int64_t stride = 0;
  bool accumulate = false;
  bool transposed = false;  // out is [columns, rows]

  Product() = default;
  Product(int64_t rows, int64_t columns, float* out, int64_t stride, bool accumulate = false)
      : rows(rows), columns(columns), out(out), stride(stride), accumulate(accumulate) {}
  Product& add(const Left& left, const Right& right) {
    terms[count++] = {left, right};
    return *this;
  }
  int64_t blocks() const { return divide_up(rows, kBlock); }
  int64_t groups() const { return divide_up(columns, kGroup); }
  int64_t tasks() const { return groups() * blocks(); }
};

/// Products none of which reads what another writes.
struct Products {
  Product list[4];
  int count = 0;

  void add(const Product& product) { list[count++] = product; }
};

/// Row blocks [block0, block1) of the column group, on the calling thread. buffer: kRightFloats
/// floats.
void multiply_group(const Product& product, int64_t group, int64_t block0, int64_t block1,
                    float* buffer);

/// Whole products in parallel, together: threads meet once. buffers: kRightFloats floats a thread.
void multiply(const Products& products, float* buffers);
void multiply(const Product& product, float* buffers);

/// out [columns, rows] = in [rows, columns] transposed, for small matrices.
void transpose(const float* in, int64_t rows, int64_t columns, int64_t in_stride, float* out,
               int64_t out_stride);

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
