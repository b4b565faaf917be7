// The quantized linear layer with its LoRA update, forward and backward.
//
//   y  = x Wᵀ + bias + s h bᵀ        with h = x aᵀ        (T x R)
//   dx = g W + e a                   with e = s g b       (T x R)
//   da = eᵀ x,  db = s gᵀ h
//
// Low-rank updates and the bias ride along as extra depth of the one big product, so y and dx are
// not written again for them. Nothing larger than the packed input of one part of the sequence, and
// of a stretch of its depth, is allocated.
#include "kernels/isa/linear.h"

#include "kernels/parallel.h"
#include "kernels/release.h"
#include "kernels/workspace.h"

namespace toolkit {
namespace TOOLKIT_ISA {

float* right_buffers(Scratch& scratch) { return scratch.floats(kRightFloats * threads()); }

void release_weight(const QuantizedMatrix& w, void (*tell)(const void* data, size_t bytes)) {
  const int64_t panels = w.rows / kPanel;
  tell(w.codes, panels * w.panel_bytes());
  const size_t parameters = panels * (w.depth / 32) * kPanel * sizeof(uint16_t);
  tell(w.scale, parameters);
  tell(w.offset, parameters);
}

Left pack_rows_of(Scratch& scratch, const float* data, int64_t rows, int64_t depth, float scale) {
  return pack_left({data, depth, 1}, rows, depth, scale, scratch.floats(left_floats(rows, depth)));
}

Left pack_columns_of(Scratch& scratch, const float* data, int64_t rows, int64_t columns,
                     float scale) {
  return pack_left({data, 1, columns}, columns, rows, scale,
                   scratch.floats(left_floats(columns, rows)));
}

namespace {

/// Tokens of a part where nothing but the packed stretch grows with it.
constexpr int64_t kLongPart = 512;
/// Floats of a packed stretch: half of a large core's L2 cache.
constexpr int64_t kStretchFloats = 256 << 10;

/// Multiplies a part of a sequence, stretch of the depth by stretch: a packed stretch stays in the
/// cache while all columns of W pass by.
class Stretches {
 public:
  Stretches(Scratch& scratch, const float* input, int64_t tokens, int64_t depth, float* buffers)
      : input_(input),
        tokens_(tokens),
        depth_(depth),
        step_(depth_step(depth, max(256, kStretchFloats / round_up(tokens, 64)))),
        packed_(scratch.floats(left_floats(tokens, step_))),
        buffers_(buffers) {}

  /// Calls body(packed input, first of its depth, whether it is the last stretch). `low_ranks` are
  /// products of the whole depth.
  template <typename Body>
  void each(const LowRanks& low_ranks, Body body) {
    for (int64_t first = 0; first < depth_; first += step_) {
      const int64_t count = min(step_, depth_ - first);
      const bool last = first + count == depth_;
      const Left input = pack_left_with({input_ + first, depth_, 1}, tokens_, count,
                                        low_ranks.of_stretch(first, last), packed_, buffers_);
      body(input, first, last);
    }
  }

 private:
  const float* input_;
  int64_t tokens_, depth_, step_;
  float* packed_;
  float* buffers_;
};

void linear_part(const float* x, int64_t tokens, const QuantizedMatrix& w, const float* bias,
                 const Adapter& lora, float scaling, float* y, float* h) {
  Scratch scratch;
  float* buffers = right_buffers(scratch);
  const LowRank update = adapter_input(scratch, lora, tokens, w.depth, scaling, h);
  LowRanks low_ranks;
  low_ranks.add(update);
  Stretches stretches(scratch, x, tokens, w.depth, buffers);
  stretches.each(low_ranks, [&](const Left& input, int64_t k, bool last) {
    Product product(tokens, w.rows, y, w.rows, k > 0);
    product.add(input, weight_rows(w, 0, k));
    if (last && lora.a != nullptr) {
      product.add({update.packed, lora.rank}, transposed(lora.b, lora.rank));
    }
    if (last && bias != nullptr) {
      const int64_t count = left_floats(tokens, 1);
      float* ones = scratch.floats(count);
      for (int64_t i = 0; i < count; ++i) ones[i] = 1.0f;
      product.add({ones, 1}, plain_right(bias, w.rows));
    }
    multiply(product, buffers);
  });
  release_weight(w);
}

/// x aᵀ once more, for a forward that did not keep it.
void recompute_low_rank(const float* x, int64_t tokens, int64_t depth, const Adapter& lora,
                        float* buffers, float* h) {
  Scratch scratch;
  LowRanks low_ranks;
  low_ranks.add({transposed(lora.a, depth), lora.rank, h});
  Stretches(scratch, x, tokens, depth, buffers).each(low_ranks, [](const Left&, int64_t, bool) {});
}

void linear_backward_part(const float* grad, const float* x, const float* h, int64_t tokens,
                          const QuantizedMatrix& w, const Adapter& lora, float scaling, bool first,
                          float* dx, const AdapterGradient& gradient) {
  Scratch scratch;
  float* buffers = right_buffers(scratch);
  const int64_t rank = lora.rank;
  const bool adapted = lora.a != nullptr;
  LowRank e;
  if (adapted) e = packed_low_rank(scratch, plain_right(lora.b, rank), tokens, rank, scaling);
  LowRanks low_ranks;
  low_ranks.add(e);
  {
    Scratch inner;
    Stretches stretches(inner, grad, tokens, w.rows, buffers);
    stretches.each(low_ranks, [&](const Left& packed, int64_t k, bool last) {
      Product product(tokens, w.depth, dx, w.depth, k > 0);
      product.add(packed, weight_columns(w, k));
      if (adapted && last) product.add({e.packed, rank}, plain_right(lora.a, w.depth));
      multiply(product, buffers);
    });
  }
  release_weight(w);
  if (!adapted) return;

  if (h == nullptr) {
    float* recomputed = scratch.floats(tokens * rank);
    recompute_low_rank(x, tokens, w.depth, lora, buffers, recomputed);
    h = recomputed;
  }
  const Left e_columns = pack_columns_of(scratch, e.out, tokens, rank, scaling);
  const Left h_columns = pack_columns_of(scratch, h, tokens, rank, scaling);
  Products gradients;
  gradients.add(rank_gradient(e_columns, rank, x, w.depth, !first, gradient.a, w.depth));
  gradients.add(rank_gradient_transposed(h_columns, rank, grad, w.rows, !first, gradient.b));
  multiply(gradients, buffers);
}

}  // namespace

void linear(const float* x, int64_t tokens, const QuantizedMatrix& w, const float* bias,
            const Adapter& lora, float scaling, float* y, float* h) {
  for_parts(tokens, kLongPart, [&](int64_t first, int64_t count) {
    linear_part(x + first * w.depth, count, w, bias, lora, scaling, y + first * w.rows,
                h != nullptr ? h + first * lora.rank : nullptr);
  });
}

void linear_backward(const float* grad, const float* x, const float* h, int64_t tokens,
                     const QuantizedMatrix& w, const Adapter& lora, float scaling, float* dx,
                     const AdapterGradient& gradient) {
  for_parts(tokens, kLongPart, [&](int64_t first, int64_t count) {
    linear_backward_part(grad + first * w.rows, x != nullptr ? x + first * w.depth : nullptr,
                         h != nullptr ? h + first * lora.rank : nullptr, count, w, lora, scaling,
                         first == 0, dx + first * w.depth, gradient);
  });
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
