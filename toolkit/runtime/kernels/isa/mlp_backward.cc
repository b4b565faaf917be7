// SwiGLU MLP with LoRA, backward, in one sweep over tiles of F columns. n is the input, dy the
// output's gradient, s the LoRA scale; hg = n Agᵀ, hu = n Auᵀ, gd = s dy Bd, all T x R. For tile j:
//
//   G = n Wg[j]ᵀ + s hg Bg[j]ᵀ, U likewise, a = silu(G) * U, hd += a Ad[:,j]ᵀ
//   da = dy Wd[:,j] + gd Ad[:,j], dAd[:,j] = gdᵀ a, dG = da * U * silu'(G), dU = da * silu(G)
//   dBg[j] = s dGᵀ hg, eg += s dG Bg[j], dn += dG Wg[j] + dU Wu[j], and the same for u
// after: dBd = s dyᵀ hd, dAg = egᵀ n, dAu = euᵀ n, dn += eg Ag + eu Au
//
// for one part of the sequence after the other; the adapters' gradients are summed over the parts.
#include "kernels/isa/elementwise.h"
#include "kernels/isa/mlp.h"
#include "kernels/parallel.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

/// What one input projection (gate or up) keeps during the sweep.
struct Branch {
  const QuantizedMatrix* w = nullptr;
  Adapter lora;
  AdapterGradient gradient;
  Left h;                   // scaled n Aᵀ, packed
  Left h_columns;           // the same, transposed and packed
  float* e = nullptr;       // [T, R]
  float* tile = nullptr;    // the projection, then its gradient [T, tile]
  float* packed = nullptr;  // its gradient as a left operand
};

class Sweep {
 public:
  Sweep(const float* grad, const float* x, int64_t tokens, const Mlp& m, bool first_part, float* dx,
        const MlpGradient& gradient)
      : grad_(grad),
        x_(x),
        tokens_(tokens),
        m_(m),
        later_part_(!first_part),
        dx_(dx),
        down_gradient_(gradient.down) {
    size_ = m.gate.depth;
    features_ = m.gate.rows;
    buffers_ = right_buffers(scratch_);
    input_ = pack_rows_of(scratch_, x, tokens, size_, 1.0f);
    output_grad_ = pack_rows_of(scratch_, grad, tokens, size_, 1.0f);
    start_branch(m.gate, m.gate_lora, gradient.gate, &gate_);
    start_branch(m.up, m.up_lora, gradient.up, &up_);
    act_ = scratch_.floats(tokens * kTile);
    if (m.down_lora.a != nullptr) start_down();
  }

  void run() {
    for (int64_t first = 0; first < features_; first += kTile) {
      const int64_t count = min(kTile, features_ - first);
      project(first, count);
      activate(first, count);
      leave(first, count);
    }
    finish();
  }

 private:
  void start_branch(const QuantizedMatrix& w, const Adapter& lora, const AdapterGradient& gradient,
                    Branch* branch) {
    branch->w = &w;
    branch->lora = lora;
    branch->gradient = gradient;
    branch->tile = scratch_.floats(tokens_ * kTile);
    branch->packed = scratch_.floats(left_floats(tokens_, kTile));
    if (lora.a == nullptr) return;
    float* h = nullptr;
    branch->h = low_rank_input(scratch_, input_, tokens_, lora, size_, m_.scaling, buffers_, &h);
    branch->h_columns = pack_columns_of(scratch_, h, tokens_, lora.rank, m_.scaling);
    branch->e = scratch_.floats(tokens_ * lora.rank);
  }

  void start_down() {
    const int64_t rank = m_.down_lora.rank;
    float* gd = scratch_.floats(tokens_ * rank);
    low_rank(output_grad_, tokens_, plain_right(m_.down_lora.b, rank), rank, gd, buffers_);
    gd_ = pack_rows_of(scratch_, gd, tokens_, rank, m_.scaling);
    gd_columns_ = pack_columns_of(scratch_, gd, tokens_, rank, m_.scaling);
    hd_ = scratch_.floats(tokens_ * rank);
  }

  /// G, U and da of the tile.
  void project(int64_t first, int64_t count) {
    Product da(tokens_, count, act_, count);
    da.add(output_grad_, weight_columns(m_.down, 0, first));
    if (hd_ != nullptr) da.add(gd_, plain_right(m_.down_lora.a + first, features_));
    const Product products[3] = {
        tile_projection(input_, m_.gate, gate_.lora, gate_.h, tokens_, first, count, gate_.tile),
        tile_projection(input_, m_.up, up_.lora, up_.h, tokens_, first, count, up_.tile), da};
    const int64_t tasks = da.groups() * da.blocks();
    parallel_balanced(3 * tasks, da.blocks(), [&](int64_t begin, int64_t end, int thread) {
      for (int i = 0; i < 3; ++i) {
        const int64_t from = max(begin - i * tasks, 0), to = min(end - i * tasks, tasks);
        if (from < to) multiply_range(products[i], from, to, buffers_ + thread * kRightFloats);
      }
    });
  }

  /// Turns G, U and da into dG, dU and a, packs them, and sums hd, eg and eu, by row blocks.
  void activate(int64_t first, int64_t count) {
    const bool accumulate = first > 0;
    Product hd(tokens_, m_.down_lora.rank, hd_, m_.down_lora.rank, accumulate);
    parallel(divide_up(tokens_, kBlock), [&](int64_t begin, int64_t end, int thread) {
      float* buffer = buffers_ + thread * kRightFloats;
      const int64_t at = begin * kBlock * count;
      const int64_t floats = min(tokens_, end * kBlock) * count - at;
      silu_mul_backward_part(act_ + at, gate_.tile + at, up_.tile + at, floats, act_ + at,
                             gate_.tile + at, up_.tile + at);
      if (hd_ != nullptr) {
        // The gate's packing space holds the packed activation until it is needed for dG.
        pack_left_blocks({act_, count, 1}, tokens_, count, 1.0f, begin, end, gate_.packed);
        Product product = hd;
        product.add({gate_.packed, count}, transposed(m_.down_lora.a + first, features_));
        run_groups(product, begin, end, buffer);
      }
      for (const Branch* branch : branches_) {
        pack_left_blocks({branch->tile, count, 1}, tokens_, count, 1.0f, begin, end,
                         branch->packed);
        if (branch->e == nullptr) continue;
        const int64_t rank = branch->lora.rank;
        Product product(tokens_, rank, branch->e, rank, accumulate);
        product.add({branch->packed, count}, plain_right(branch->lora.b + first * rank, rank));
        run_groups(product, begin, end, buffer);
      }
    });
  }

  static void run_groups(const Product& product, int64_t begin, int64_t end, float* buffer) {
    for (int64_t group = 0; group < product.groups(); ++group) {
      multiply_group(product, group, begin, end, buffer);
    }
  }

  /// What leaves the tile: dn and the adapter gradients that belong to its columns.
  void leave(int64_t first, int64_t count) {
    multiply(Product(tokens_, size_, dx_, size_, first > 0)
                 .add({gate_.packed, count}, weight_columns(m_.gate, first))
                 .add({up_.packed, count}, weight_columns(m_.up, first)),
             buffers_);
    release_rows(m_.gate, first, count);
    release_rows(m_.up, first, count);
    for (const Branch* branch : branches_) {
      if (branch->e == nullptr) continue;
      const int64_t rank = branch->lora.rank;
      rank_gradient_transposed(branch->h_columns, rank, branch->tile, count, count, later_part_,
                               branch->gradient.b + first * rank, buffers_);
    }
    if (hd_ != nullptr) {
      Product da(m_.down_lora.rank, count, down_gradient_.a + first, features_, later_part_);
      multiply(da.add(gd_columns_, plain_right(act_, count)), buffers_);
    }
  }

  void finish() {
    for (const Branch* branch : branches_) {
      if (branch->e == nullptr) continue;
      const int64_t rank = branch->lora.rank;
      const Left e = pack_rows_of(scratch_, branch->e, tokens_, rank, m_.scaling);
      const Left e_columns = pack_columns_of(scratch_, branch->e, tokens_, rank, m_.scaling);
      multiply(Product(tokens_, size_, dx_, size_, true).add(e, plain_right(branch->lora.a, size_)),
               buffers_);
      rank_gradient(e_columns, rank, x_, size_, size_, later_part_, branch->gradient.a, buffers_);
    }
    if (hd_ != nullptr) {
      const int64_t rank = m_.down_lora.rank;
      const Left hd = pack_columns_of(scratch_, hd_, tokens_, rank, m_.scaling);
      rank_gradient_transposed(hd, rank, grad_, size_, size_, later_part_, down_gradient_.b,
                               buffers_);
    }
    release_weight(m_.gate);
    release_weight(m_.up);
    release_weight(m_.down);
  }

  Scratch scratch_;
  const float* grad_;
  const float* x_;
  int64_t tokens_;
  const Mlp& m_;
  bool later_part_;
  float* dx_;
  AdapterGradient down_gradient_;
  int64_t size_ = 0, features_ = 0;
  float* buffers_ = nullptr;
  Left input_, output_grad_, gd_, gd_columns_;
  Branch gate_, up_;
  const Branch* const branches_[2] = {&gate_, &up_};
  float* act_ = nullptr;  // da, then a [T, tile]
  float* hd_ = nullptr;
};

}  // namespace

void mlp_backward(const float* grad, const float* x, int64_t tokens, const Mlp& weights, float* dx,
                  const MlpGradient& gradient) {
  const int64_t size = weights.gate.depth;
  for_parts(tokens, kTokens, [&](int64_t first, int64_t count) {
    Sweep(grad + first * size, x + first * size, count, weights, first == 0, dx + first * size,
          gradient)
        .run();
  });
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
