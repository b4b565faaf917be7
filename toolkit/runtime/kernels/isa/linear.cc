// The quantized linear layer with its LoRA update, forward and backward.
//
//   y  = x Wᵀ + bias + s h bᵀ        with h = x aᵀ        (T x R)
//   dx = g W + e a                   with e = s g b       (T x R)
//   da = eᵀ x,  db = s gᵀ h
//
// Low-rank updates and the bias ride along as extra depth of the one big product, so y and dx are
// written once. Nothing larger than the packed input of one part of the sequence is allocated.
#include "kernels/isa/linear.h"

#include "kernels/parallel.h"
#include "kernels/release.h"
#include "kernels/workspace.h"

namespace toolkit {
namespace TOOLKIT_ISA {

float* right_buffers(Scratch& scratch) { return scratch.floats(kRightFloats * threads()); }

void release_weight(const QuantizedMatrix& w) {
  const int64_t panels = w.rows / kPanel;
  release(w.codes, panels * w.panel_bytes());
  const size_t parameters = panels * (w.depth / 32) * kPanel * sizeof(uint16_t);
  release(w.scale, parameters);
  release(w.offset, parameters);
}

Left pack_rows_of(Scratch& scratch, const float* data, int64_t rows, int64_t depth, float scale) {
  return pack_left({data, depth, 1}, rows, depth, scale, scratch.floats(left_floats(rows, depth)));
}

Left pack_columns_of(Scratch& scratch, const float* data, int64_t rows, int64_t columns,
                     float scale) {
  return pack_left({data, 1, columns}, columns, rows, scale,
                   scratch.floats(left_floats(columns, rows)));
}

void rank_gradient(const Left& low_rank, int64_t rank, const float* full, int64_t columns,
                   int64_t stride, bool accumulate, float* out, float* buffers) {
  multiply(
      Product(rank, columns, out, columns, accumulate).add(low_rank, plain_right(full, stride)),
      buffers);
}

void rank_gradient_transposed(const Left& low_rank, int64_t rank, const float* full,
                              int64_t columns, int64_t stride, bool accumulate, float* out,
                              float* buffers) {
  Scratch scratch;
  float* wide = scratch.floats(rank * columns);
  rank_gradient(low_rank, rank, full, columns, stride, false, wide, buffers);
  transpose(wide, rank, columns, columns, out, rank, accumulate);
}

namespace {

void linear_part(const float* x, int64_t tokens, const QuantizedMatrix& w, const float* bias,
                 const Adapter& lora, float scaling, float* y, float* h) {
  Scratch scratch;
  float* buffers = right_buffers(scratch);
  const Left input = pack_rows_of(scratch, x, tokens, w.depth, 1.0f);
  Product product(tokens, w.rows, y, w.rows);
  product.add(input, weight_rows(w));
  if (lora.a != nullptr) {
    if (h == nullptr) h = scratch.floats(tokens * lora.rank);
    multiply(Product(tokens, lora.rank, h, lora.rank).add(input, transposed(lora.a, w.depth)),
             buffers);
    product.add(pack_rows_of(scratch, h, tokens, lora.rank, scaling),
                transposed(lora.b, lora.rank));
  }
  if (bias != nullptr) {
    const int64_t count = left_floats(tokens, 1);
    float* ones = scratch.floats(count);
    for (int64_t i = 0; i < count; ++i) ones[i] = 1.0f;
    product.add({ones, 1}, plain_right(bias, w.rows));
  }
  multiply(product, buffers);
  release_weight(w);
}

void linear_backward_part(const float* grad, const float* x, const float* h, int64_t tokens,
                          const QuantizedMatrix& w, const Adapter& lora, float scaling, bool first,
                          float* dx, const AdapterGradient& gradient) {
  Scratch scratch;
  float* buffers = right_buffers(scratch);
  const Left packed_grad = pack_rows_of(scratch, grad, tokens, w.rows, 1.0f);
  Product product(tokens, w.depth, dx, w.depth);
  product.add(packed_grad, weight_columns(w));
  if (lora.a == nullptr) {
    multiply(product, buffers);
    release_weight(w);
    return;
  }
  const int64_t rank = lora.rank;
  float* e = scratch.floats(tokens * rank);
  multiply(Product(tokens, rank, e, rank).add(packed_grad, plain_right(lora.b, rank)), buffers);
  product.add(pack_rows_of(scratch, e, tokens, rank, scaling), plain_right(lora.a, w.depth));
  multiply(product, buffers);
  release_weight(w);

  if (h == nullptr) {
    float* recomputed = scratch.floats(tokens * rank);
    Scratch inner;
    const Left input = pack_rows_of(inner, x, tokens, w.depth, 1.0f);
    multiply(Product(tokens, rank, recomputed, rank).add(input, transposed(lora.a, w.depth)),
             buffers);
    h = recomputed;
  }
  const Left e_columns = pack_columns_of(scratch, e, tokens, rank, scaling);
  rank_gradient(e_columns, rank, x, w.depth, w.depth, !first, gradient.a, buffers);
  const Left h_columns = pack_columns_of(scratch, h, tokens, rank, scaling);
  rank_gradient_transposed(h_columns, rank, grad, w.rows, w.rows, !first, gradient.b, buffers);
}

}  // namespace

void linear(const float* x, int64_t tokens, const QuantizedMatrix& w, const float* bias,
            const Adapter& lora, float scaling, float* y, float* h) {
  for_parts(tokens, [&](int64_t first, int64_t count) {
    linear_part(x + first * w.depth, count, w, bias, lora, scaling, y + first * w.rows,
                h != nullptr ? h + first * lora.rank : nullptr);
  });
}

void linear_backward(const float* grad, const float* x, const float* h, int64_t tokens,
                     const QuantizedMatrix& w, const Adapter& lora, float scaling, float* dx,
                     const AdapterGradient& gradient) {
  for_parts(tokens, [&](int64_t first, int64_t count) {
    linear_backward_part(grad + first * w.rows, x != nullptr ? x + first * w.depth : nullptr,
                         h != nullptr ? h + first * lora.rank : nullptr, count, w, lora, scaling,
                         first == 0, dx + first * w.depth, gradient);
  });
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
