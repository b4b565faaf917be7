// Gated MLP with LoRA, backward, in one sweep over tiles of F columns (silu, or gelu). n is the
// input, dy the output's gradient, s the LoRA scale; hg = n Agᵀ, hu = n Auᵀ, gd = s dy Bd, all T x
// R. For tile j:
//
//   G = n Wg[j]ᵀ + s hg Bg[j]ᵀ, U likewise, a = silu(G) * U, hd += a Ad[:,j]ᵀ
//   da = dy Wd[:,j] + gd Ad[:,j], dAd[:,j] = gdᵀ a, dG = da * U * silu'(G), dU = da * silu(G)
//   dBg[j] = s dGᵀ hg, eg += s dG Bg[j], dn += dG Wg[j] + dU Wu[j], and the same for u
// after: dBd = s dyᵀ hd, dAg = egᵀ n, dAu = euᵀ n, dn += eg Ag + eu Au
//
// for one part of the sequence after the other; the adapters' gradients are summed over the parts.
#include "kernels/mlp.h"
#include "kernels/parallel.h"

namespace toolkit {
namespace {

/// What one input projection (gate or up) keeps during the sweep.
struct Branch {
  const QuantizedMatrix* w = nullptr;
  Adapter lora;
  AdapterGradient gradient;
  LowRank h;               // n Aᵀ
  Left h_columns;          // the same, transposed, scaled and packed
  LowRank e;               // dG B, packed times s
  float* tile = nullptr;   // the projection, then its gradient [T, tile]
  void* packed = nullptr;  // its gradient as a left operand
};

class Sweep {
 public:
  Sweep(const Kernels& k, const float* grad, const float* x, int64_t tokens, const Mlp& m,
        bool first_part, float* dx, const MlpGradient& gradient)
      : k_(k),
        buffers_(k, scratch_),
        grad_(grad),
        x_(x),
        tokens_(tokens),
        m_(m),
        later_part_(!first_part),
        dx_(dx),
        down_gradient_(gradient.down) {
    size_ = m.gate.depth;
    features_ = m.gate.rows;
    start_branch(m.gate, m.gate_lora, gradient.gate, &gate_);
    start_branch(m.up, m.up_lora, gradient.up, &up_);
    act_ = scratch_.floats(tokens * tile_);
    if (m.down_lora.a != nullptr) {
      const int64_t rank = m.down_lora.rank;
      gd_ =
          packed_low_rank(k_, scratch_, plain_right(m.down_lora.b, rank), tokens, rank, m.scaling);
      hd_ = {transposed(m.down_lora.a, features_), rank, scratch_.floats(tokens * rank)};
    }
    pack_inputs();
  }

  void run() {
    for (int64_t first = 0; first < features_; first += tile_) {
      const int64_t count = min(tile_, features_ - first);
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
    branch->tile = scratch_.floats(tokens_ * tile_);
    branch->packed = left_room(k_, k_.arithmetic, scratch_, tokens_, tile_);
    if (lora.a == nullptr) return;
    branch->h = adapter_input(k_, scratch_, lora, tokens_, size_, m_.scaling);
    branch->e = packed_low_rank(k_, scratch_, plain_right(lora.b, lora.rank), tokens_, lora.rank,
                                m_.scaling);
  }

  void pack_inputs() {
    LowRanks products, grad_products;
    for (const Branch* branch : branches_) products.add(branch->h);
    grad_products.add(gd_);
    void* input = left_room(k_, k_.arithmetic, scratch_, tokens_, size_);
    void* output_grad = left_room(k_, k_.arithmetic, scratch_, tokens_, size_);
    parallel_short(divide_up(tokens_, k_.tiles.block), kLeastBlocks,
                   [&](int64_t begin, int64_t end, int thread) {
                     void* buffer = buffers_.of(thread);
                     const View x{x_, size_, 1}, grad{grad_, size_, 1};
                     pack_blocks_with(k_, x, tokens_, size_, products, begin, end, input, buffer);
                     pack_blocks_with(k_, grad, tokens_, size_, grad_products, begin, end,
                                      output_grad, buffer);
                   });
    input_ = {input, size_};
    output_grad_ = {output_grad, size_};
    for (Branch* branch : branches_) branch->h_columns = columns_of(branch->h);
    gd_columns_ = columns_of(gd_);
  }

  /// The transposed, scaled result as a left operand.
  Left columns_of(const LowRank& product) {
    if (product.rank == 0) return {};
    return pack_columns_of(k_, scratch_, product.out, tokens_, product.rank, m_.scaling);
  }

  /// G, U and da of the tile.
  void project(int64_t first, int64_t count) {
    Product da(k_.arithmetic, tokens_, count, act_, count);
    da.add(output_grad_, weight_columns(m_.down, 0, first));
    if (gd_.rank > 0) {
      da.add({gd_.packed, gd_.rank, &k_.float32}, plain_right(m_.down_lora.a + first, features_));
    }
    Products products;
    for (const Branch* b : branches_) {
      products.add(
          tile_projection(k_, input_, *b->w, b->lora, b->h, tokens_, first, count, b->tile));
    }
    products.add(da);
    multiply(k_, products, buffers_);
  }

  /// Turns G, U and da into dG, dU and a, packs them, and sums hd, eg and eu, by row blocks.
  void activate(int64_t first, int64_t count) {
    const bool last = first + count == features_, gelu = m_.activation == Activation::gelu;
    const auto activate_backward = gelu ? k_.rows.gelu_mul_backward : k_.rows.silu_mul_backward;
    LowRanks act_products, products[2];
    act_products.add(hd_);
    act_products = act_products.of_stretch(first, last);
    for (int i = 0; i < 2; ++i) {
      products[i].add(branches_[i]->e);
      products[i] = products[i].of_stretch(first, last);
    }
    parallel_short(divide_up(tokens_, k_.tiles.block), kLeastBlocks,
                   [&](int64_t begin, int64_t end, int thread) {
                     void* buffer = buffers_.of(thread);
                     const int64_t at = begin * k_.tiles.block * count;
                     const int64_t floats = min(tokens_, end * k_.tiles.block) * count - at;
                     activate_backward(act_ + at, gate_.tile + at, up_.tile + at, floats, act_ + at,
                                       gate_.tile + at, up_.tile + at);
                     if (hd_.rank > 0) {
                       // The gate's packing space holds the packed activation until it is needed
                       // for dG.
                       pack_blocks_with(k_, {act_, count, 1}, tokens_, count, act_products, begin,
                                        end, gate_.packed, buffer);
                     }
                     for (int i = 0; i < 2; ++i) {
                       pack_blocks_with(k_, {branches_[i]->tile, count, 1}, tokens_, count,
                                        products[i], begin, end, branches_[i]->packed, buffer);
                     }
                   });
  }

  /// What leaves the tile: dn and the adapter gradients that belong to its columns.
  void leave(int64_t first, int64_t count) {
    Product dn(k_.arithmetic, tokens_, size_, dx_, size_, first > 0);
    for (const Branch* b : branches_) dn.add({b->packed, count}, weight_columns(*b->w, first));
    if (first + count == features_) {
      for (const Branch* b : branches_) {
        if (b->e.rank > 0) {
          dn.add({b->e.packed, b->e.rank, &k_.float32}, plain_right(b->lora.a, size_));
        }
      }
    }
    Products products;
    products.add(dn);
    for (const Branch* b : branches_) {
      const int64_t rank = b->e.rank;
      if (rank == 0) continue;
      products.add(rank_gradient_transposed(k_, b->h_columns, rank, b->tile, count, later_part_,
                                            b->gradient.b + first * rank));
    }
    if (down_gradient_.a != nullptr) {
      products.add(rank_gradient(k_, gd_columns_, gd_.rank, act_, count, later_part_,
                                 down_gradient_.a + first, features_));
    }
    multiply(k_, products, buffers_);
    release_rows(m_.gate, first, count);
    release_rows(m_.up, first, count);
  }

  /// The adapter gradients that wait for all tiles.
  void finish() {
    Products products;
    const bool shared = m_.fused && gate_.e.rank > 0;
    if (shared) k_.rows.add(gate_.e.out, up_.e.out, tokens_ * gate_.e.rank, gate_.e.out);
    for (const Branch* b : branches_) {
      if (b->gradient.a == nullptr || (shared && b == &up_)) continue;
      products.add(rank_gradient(k_, columns_of(b->e), b->e.rank, x_, size_, later_part_,
                                 b->gradient.a, size_));
    }
    if (hd_.rank > 0) {
      products.add(rank_gradient_transposed(k_, columns_of(hd_), hd_.rank, grad_, size_,
                                            later_part_, down_gradient_.b));
    }
    if (products.count > 0) multiply(k_, products, buffers_);
    release_rest_of(m_.gate);
    release_rest_of(m_.up);
    release_weight(m_.down);
  }

  const Kernels& k_;
  const int64_t tile_ = k_.tiles.features;
  Scratch scratch_;
  RightBuffers buffers_;
  const float* grad_;
  const float* x_;
  int64_t tokens_;
  const Mlp& m_;
  bool later_part_;
  float* dx_;
  AdapterGradient down_gradient_;
  int64_t size_ = 0, features_ = 0;
  Left input_, output_grad_, gd_columns_;
  LowRank gd_, hd_;
  Branch gate_, up_;
  Branch* const branches_[2] = {&gate_, &up_};
  float* act_ = nullptr;  // da, then a [T, tile]
};

}  // namespace

void Kernels::mlp_backward(const float* grad, const float* x, int64_t tokens, const Mlp& weights,
                           float* dx, const MlpGradient& gradient) const {
  const int64_t size = weights.gate.depth;
  for_parts(tiles, tokens, tiles.tokens, [&](int64_t first, int64_t count) {
    Sweep(*this, grad + first * size, x + first * size, count, weights, first == 0,
          dx + first * size, gradient)
        .run();
  });
}

}  // namespace toolkit
