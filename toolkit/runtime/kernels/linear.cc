// The quantized linear layer with its LoRA update, forward and backward.
//
//   y  = x Wᵀ + bias + s h bᵀ        with h = x aᵀ        (T x R)
//   dx = g W + e a                   with e = s g b       (T x R)
//   da = eᵀ x,  db = s gᵀ h
//
// Low-rank updates and the bias ride along as extra depth of the one big product, so y and dx are
// not written again for them. Nothing larger than the packed input of one part of the sequence, and
// of a stretch of its depth, is allocated.
#include "kernels/few_rows.h"
#include "kernels/low_rank.h"

namespace toolkit {
namespace {

/// Multiplies a part of a sequence, stretch of the depth by stretch: a packed stretch stays in the
/// cache while all columns of W pass by.
class Stretches {
 public:
  Stretches(const Kernels& k, Scratch& scratch, int64_t tokens, int64_t depth,
            const RightBuffers& buffers)
      : k_(k),
        scratch_(scratch),
        tokens_(tokens),
        depth_(depth),
        step_(min(depth, round_up(depth_step(depth, longest(k, tokens)), k.arithmetic.step))),
        buffers_(buffers) {}

  /// Adds a sequence. `low_ranks` are products of the whole depth.
  void add(const float* input, const LowRanks& low_ranks) {
    inputs_[count_] = input;
    low_ranks_[count_] = low_ranks;
    packed_[count_++].out = left_room(k_, k_.arithmetic, scratch_, tokens_, step_);
  }

  /// Calls body(packed inputs, first of their depth, whether it is the last stretch).
  template <typename Body>
  void each(Body body) {
    for (int64_t first = 0; first < depth_; first += step_) {
      const int64_t depth = min(step_, depth_ - first);
      const bool last = first + depth == depth_;
      Left lefts[kMostTogether];
      for (int64_t i = 0; i < count_; ++i) {
        packed_[i].view = {inputs_[i] + first, depth_, 1};
        packed_[i].low_ranks = low_ranks_[i].of_stretch(first, last);
        lefts[i] = {packed_[i].out, depth};
      }
      pack_rows_with(k_, packed_, count_, tokens_, depth, buffers_);
      body(lefts, first, last);
    }
  }

 private:
  static int64_t longest(const Kernels& k, int64_t tokens) {
    const int64_t block = k.arithmetic.left_bytes(k.tiles, k.tiles.block, kQuantGroup);
    const int64_t group_bytes = round_up(tokens, 64) * (block / k.tiles.block);
    return max(256, k.tiles.stretch * kQuantGroup / group_bytes);
  }

  const Kernels& k_;
  Scratch& scratch_;
  int64_t tokens_, depth_, step_;
  const RightBuffers& buffers_;
  int64_t count_ = 0;
  const float* inputs_[kMostTogether];
  LowRanks low_ranks_[kMostTogether];
  PackedRows packed_[kMostTogether];
};

/// Tokens [at, at + tokens) of every sequence.
void linear_part(const Kernels& k, const LinearSequence* sequences, int64_t count, int64_t at,
                 int64_t tokens, const QuantizedMatrix& w, const float* bias, float scaling) {
  Scratch scratch;
  const RightBuffers buffers(k, scratch);
  Stretches stretches(k, scratch, tokens, w.depth, buffers);
  LowRank updates[kMostTogether];
  for (int64_t i = 0; i < count; ++i) {
    const LinearSequence& s = sequences[i];
    float* h = s.h != nullptr ? s.h + at * s.lora.rank : nullptr;
    updates[i] = adapter_input(k, scratch, s.lora, tokens, w.depth, scaling, h);
    LowRanks low_ranks;
    low_ranks.add(updates[i]);
    stretches.add(s.x + at * w.depth, low_ranks);
  }
  stretches.each([&](const Left* inputs, int64_t first, bool last) {
    Left ones{nullptr, 1, &k.float32};
    if (last && bias != nullptr) {
      void* room = left_room(k, k.float32, scratch, tokens, 1);
      k.float32.pack_ones(tokens, room);
      ones.data = room;
    }
    Product products[kMostTogether];
    for (int64_t i = 0; i < count; ++i) {
      const LinearSequence& s = sequences[i];
      products[i] = Product(k.arithmetic, tokens, w.rows, s.y + at * w.rows, w.rows, first > 0);
      products[i].add(inputs[i], weight_rows(w, 0, first));
      if (last && s.lora.a != nullptr) {
        products[i].add({updates[i].packed, s.lora.rank, &k.float32},
                        transposed(s.lora.b, s.lora.rank));
      }
      if (last && bias != nullptr) products[i].add(ones, plain_right(bias, w.rows));
    }
    multiply(k, chained(products, count), buffers);
  });
  release_weight(w);
}

/// x aᵀ once more, for a forward that did not keep it.
void recompute_low_rank(const Kernels& k, const float* x, int64_t tokens, int64_t depth,
                        const Adapter& lora, const RightBuffers& buffers, float* h) {
  Scratch scratch;
  LowRanks low_ranks;
  low_ranks.add({transposed(lora.a, depth), lora.rank, h});
  Stretches stretches(k, scratch, tokens, depth, buffers);
  stretches.add(x, low_ranks);
  stretches.each([](const Left*, int64_t, bool) {});
}

void linear_backward_part(const Kernels& k, const float* grad, const float* x, const float* h,
                          int64_t tokens, const QuantizedMatrix& w, const Adapter& lora,
                          float scaling, bool first_part, float* dx,
                          const AdapterGradient& gradient) {
  Scratch scratch;
  const RightBuffers buffers(k, scratch);
  const int64_t rank = lora.rank;
  const bool adapted = lora.a != nullptr;
  LowRank e;
  if (adapted) e = packed_low_rank(k, scratch, plain_right(lora.b, rank), tokens, rank, scaling);
  LowRanks low_ranks;
  low_ranks.add(e);
  {
    Scratch inner;
    Stretches stretches(k, inner, tokens, w.rows, buffers);
    stretches.add(grad, low_ranks);
    stretches.each([&](const Left* packed, int64_t first, bool last) {
      Product product(k.arithmetic, tokens, w.depth, dx, w.depth, first > 0);
      product.add(packed[0], weight_columns(w, first));
      if (adapted && last) {
        product.add({e.packed, rank, &k.float32}, plain_right(lora.a, w.depth));
      }
      multiply(k, product, buffers);
    });
  }
  release_weight(w);
  if (!adapted) return;

  if (h == nullptr) {
    float* recomputed = scratch.floats(tokens * rank);
    recompute_low_rank(k, x, tokens, w.depth, lora, buffers, recomputed);
    h = recomputed;
  }
  const Left h_columns = pack_columns_of(k, scratch, h, tokens, rank, scaling);
  Products gradients;
  if (gradient.a != nullptr) {
    const Left e_columns = pack_columns_of(k, scratch, e.out, tokens, rank, scaling);
    gradients.add(rank_gradient(k, e_columns, rank, x, w.depth, !first_part, gradient.a, w.depth));
  }
  gradients.add(
      rank_gradient_transposed(k, h_columns, rank, grad, w.rows, !first_part, gradient.b));
  multiply(k, gradients, buffers);
}

}  // namespace

void Kernels::linear(const float* x, int64_t tokens, const QuantizedMatrix& w, const float* bias,
                     const Adapter& lora, float scaling, float* y, float* h) const {
  if (h == nullptr && are_few(*this, tokens)) {
    return few_rows_linear(*this, x, tokens, w, bias, lora, scaling, y);
  }
  const LinearSequence sequence{x, lora, y, h};
  linear_together(&sequence, 1, tokens, w, bias, scaling);
}

void Kernels::linear_together(const LinearSequence* sequences, int64_t count, int64_t tokens,
                              const QuantizedMatrix& w, const float* bias, float scaling) const {
  for_parts(tiles, tokens, tiles.linear_tokens, [&](int64_t first, int64_t part) {
    linear_part(*this, sequences, count, first, part, w, bias, scaling);
  });
}

void Kernels::linear_backward(const float* grad, const float* x, const float* h, int64_t tokens,
                              const QuantizedMatrix& w, const Adapter& lora, float scaling,
                              float* dx, const AdapterGradient& gradient) const {
  for_parts(tiles, tokens, tiles.linear_tokens, [&](int64_t first, int64_t count) {
    linear_backward_part(*this, grad + first * w.rows, x != nullptr ? x + first * w.depth : nullptr,
                         h != nullptr ? h + first * lora.rank : nullptr, count, w, lora, scaling,
                         first == 0, dx + first * w.depth, gradient);
  });
}

}  // namespace toolkit
