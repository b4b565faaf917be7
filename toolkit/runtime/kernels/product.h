// Matrix products C (+)= sum of L_i R_i: left operands packed, right operands packed panel by panel
// as they are needed (which is where quantized weights are unpacked), C row-major floats.
//
// Rows are packed in blocks of Tiles::block, columns in groups of Tiles::group. What a packed
// operand looks like is known to the arithmetic that packed it; the rest knows its size only.
#pragma once

#include "kernels/integers.h"
#include "kernels/kernels.h"
#include "kernels/tiles.h"

namespace toolkit {

constexpr int kMaxTerms = 4;

/// A strided fp32 matrix; element (i, j) at data[i * row_stride + j * column_stride].
struct View {
  const float* data;
  int64_t row_stride;
  int64_t column_stride;
};

/// A packed left operand. `arithmetic` packed it; null: that of the product it is a part of.
struct Left {
  const void* data = nullptr;
  int64_t depth = 0;
  const Arithmetic* arithmetic = nullptr;
};

/// The right operand of a product, [depth, columns], from (row, column) = (depth0, column0) of its
/// source.
struct Right {
  enum Kind {
    kWeightRows,     // Wᵀ: columns are rows of W, depth its features
    kWeightColumns,  // W: depth are rows of W, columns its features
    kTransposed,     // data [columns, depth] with row stride `stride`
    kPlain,          // data [depth, columns] with row stride `stride`
    kPacked,         // packed before, `stride` deep
  };
  Kind kind = kPlain;
  const QuantizedMatrix* weight = nullptr;
  const float* data = nullptr;
  const void* packed = nullptr;
  int64_t stride = 0;
  int64_t depth0 = 0;
  int64_t column0 =
      0;  // multiple of 16 for weights' rows, of 32 for columns, of a group when packed
  int64_t columns = 0;  // of the whole operand, when packed
};

struct Term {
  Left left;
  Right right;
};

struct Product {
  const Arithmetic* arithmetic = nullptr;
  Term terms[kMaxTerms];
  int count = 0;
  int64_t rows = 0;
  int64_t columns = 0;
  float* out = nullptr;
  int64_t stride = 0;
  bool accumulate = false;
  bool transposed = false;  // out is [columns, rows]
  /// Another product of as many columns, whose terms have the depths of this one's and where they
  /// are weights the same ones. The row blocks of such a chain are counted through, and a group of
  /// columns of the weights is unpacked once for all of them; every element is summed as it would
  /// be alone. What it is multiplied in and added to is the first one's to say.
  const Product* next = nullptr;

  Product() = default;
  Product(const Arithmetic& arithmetic, int64_t rows, int64_t columns, float* out, int64_t stride,
          bool accumulate = false)
      : arithmetic(&arithmetic),
        rows(rows),
        columns(columns),
        out(out),
        stride(stride),
        accumulate(accumulate) {}
  Product& add(const Left& left, const Right& right) {
    terms[count++] = {left, right};
    return *this;
  }
};

/// A part of a right operand that is packed ahead of its use, of depth x columns.
struct RightPart {
  int64_t depth, columns;         // of the whole operand
  int64_t column0, column_count;  // column0 a multiple of a group
  int64_t depth0, depth_count;
};

}  // namespace toolkit
