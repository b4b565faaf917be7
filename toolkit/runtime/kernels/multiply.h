// Products in parallel, their operands, and the parts a sequence is worked on in: what the linear
// layer, the MLP, the loss head and attention share.
#pragma once

#include "kernels/primitives.h"
#include "kernels/workspace.h"

namespace toolkit {

/// Tokens of a part of a sequence: equal parts of about `wanted` in whole row blocks, of which the
/// last may be shorter.
int64_t part_tokens(const Tiles& tiles, int64_t tokens, int64_t wanted);

/// Calls body(first, count) for every part.
template <typename Body>
void for_parts(const Tiles& tiles, int64_t tokens, int64_t wanted, Body body) {
  const int64_t step = part_tokens(tiles, tokens, wanted);
  for (int64_t first = 0; first < tokens; first += step) body(first, min(step, tokens - first));
}

/// Calls body(i, first, last) for what of a range lies in each of equal parts of so many, which are
/// counted through: first and last from the beginning of part i.
template <typename Body>
void for_each_part(int64_t size, int64_t begin, int64_t end, Body body) {
  while (begin < end) {
    const int64_t i = begin / size, last = min(end, (i + 1) * size);
    body(i, begin - i * size, last - i * size);
    begin = last;
  }
}

Right weight_rows(const QuantizedMatrix& w, int64_t first_row = 0, int64_t first_feature = 0);
Right weight_columns(const QuantizedMatrix& w, int64_t first_row = 0, int64_t first_feature = 0);
Right transposed(const float* data, int64_t stride);
Right plain_right(const float* data, int64_t stride);

/// A buffer for right operands for every thread, large enough for each arithmetic of the kernels.
class RightBuffers {
 public:
  RightBuffers(const Kernels& k, Scratch& scratch);
  void* of(int thread) const { return memory_ + thread * bytes_; }

 private:
  int64_t bytes_;
  char* memory_;
};

constexpr int kMaxProducts = 4;

/// Products none of which reads what another writes.
struct Products {
  Product list[kMaxProducts];
  int count = 0;

  void add(const Product& product) { list[count++] = product; }
};

/// Has products follow one another as a chain (product.h), and returns the first.
const Product& chained(Product* list, int64_t count);

/// Whole products in parallel, together: threads meet once.
void multiply(const Kernels& k, const Products& products, const RightBuffers& buffers);
void multiply(const Kernels& k, const Product& product, const RightBuffers& buffers);

/// Room for a left operand.
void* left_room(const Kernels& k, const Arithmetic& arithmetic, Scratch& scratch, int64_t rows,
                int64_t depth);

/// scale * view [rows, depth] as a left operand in `room`, packed in parallel where that pays.
Left pack_left(const Kernels& k, const Arithmetic& arithmetic, const View& view, int64_t rows,
               int64_t depth, float scale, void* room);

/// scale * dataᵀ as a float32 left operand, data [rows, columns].
Left pack_columns_of(const Kernels& k, Scratch& scratch, const float* data, int64_t rows,
                     int64_t columns, float scale);

/// Tells the release hook that codes and parameters of w have been read for the last time.
void release_weight(const QuantizedMatrix& w);

/// The same where rows were released one after the other, see release_rest.
void release_rest_of(const QuantizedMatrix& w);

/// The same of rows [row, row + rows).
void release_rows(const QuantizedMatrix& w, int64_t row, int64_t rows);

}  // namespace toolkit
