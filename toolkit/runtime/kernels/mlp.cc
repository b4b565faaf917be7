// Gated MLP with LoRA, forward, in one sweep over tiles of F columns (silu, or gelu in its place):
//
//   G = n Wg[j]ᵀ + s hg Bg[j]ᵀ, U likewise, a = silu(G) * U, y += a Wd[:,j]ᵀ, hd += a Ad[:,j]ᵀ
//   at the end y += s hd Bdᵀ                                           with hg = n Agᵀ, hu = n Auᵀ
//
// Gate, up and activation exist for one tile (T x Tiles::features) at a time, T one part of the
// sequence.
#include "kernels/mlp.h"

#include "kernels/few_rows.h"
#include "kernels/parallel.h"

namespace toolkit {

Product tile_projection(const Kernels& k, const Left& input, const QuantizedMatrix& w,
                        const Adapter& lora, const LowRank& low_rank, int64_t tokens, int64_t first,
                        int64_t count, float* out) {
  Product product(k.arithmetic, tokens, count, out, count);
  product.add(input, weight_rows(w, first));
  if (lora.b != nullptr) {
    product.add({low_rank.packed, lora.rank, &k.float32},
                transposed(lora.b + first * lora.rank, lora.rank));
  }
  return product;
}

namespace {

/// A part of a sequence in work.
struct Part {
  const Mlp* m;
  float* y;
  LowRank hg, hu, hd;
  Left input;
  float *gate, *up;  // [tokens, Tiles::features]
  void* packed;      // their activation
};

/// The same tokens of sequences that share their weights.
class Parts {
 public:
  Parts(const Kernels& k, const MlpSequence* sequences, int64_t count, int64_t at, int64_t tokens)
      : k_(k),
        shared_(sequences[0].weights),
        count_(count),
        tokens_(tokens),
        buffers_(k, scratch_) {
    const int64_t size = shared_.gate.depth;
    PackedRows inputs[kMostTogether];
    for (int64_t i = 0; i < count; ++i) {
      const MlpSequence& s = sequences[i];
      inputs[i].view = {s.x + at * size, size, 1};
      inputs[i].out = begin(s.weights, s.y + at * size, &parts_[i], &inputs[i].low_ranks);
    }
    pack_rows_with(k, inputs, count, tokens, size, buffers_);
    for (int64_t i = 0; i < count; ++i) {
      Part& part = parts_[i];
      part.gate = scratch_.floats(tokens * k.tiles.features);
      part.up = scratch_.floats(tokens * k.tiles.features);
      part.packed = left_room(k, k.arithmetic, scratch_, tokens, k.tiles.features);
    }
  }

  void run() {
    const int64_t features = shared_.gate.rows, tile = k_.tiles.features;
    for (int64_t first = 0; first < features; first += tile) {
      const int64_t count = min(tile, features - first);
      project(first, count);
      activate(first, count);
      descend(first, count);
    }
    release_rest_of(shared_.gate);
    release_rest_of(shared_.up);
    release_weight(shared_.down);
  }

 private:
  /// Room for what x is multiplied with; returns that for x packed.
  void* begin(const Mlp& m, float* y, Part* part, LowRanks* products) {
    const int64_t size = m.gate.depth;
    part->m = &m;
    part->y = y;
    part->hg = adapter_input(k_, scratch_, m.gate_lora, tokens_, size, m.scaling);
    part->hu = adapter_input(k_, scratch_, m.up_lora, tokens_, size, m.scaling);
    part->hd = adapter_input(k_, scratch_, m.down_lora, tokens_, m.gate.rows, m.scaling);
    products->add(part->hg);
    products->add(part->hu);
    void* room = left_room(k_, k_.arithmetic, scratch_, tokens_, size);
    part->input = {room, size};
    return room;
  }

  /// G and U of a tile.
  void project(int64_t first, int64_t count) {
    Product gates[kMostTogether], ups[kMostTogether];
    for (int64_t i = 0; i < count_; ++i) {
      const Part& p = parts_[i];
      const Mlp& m = *p.m;
      gates[i] = tile_projection(k_, p.input, shared_.gate, m.gate_lora, p.hg, tokens_, first,
                                 count, p.gate);
      ups[i] =
          tile_projection(k_, p.input, shared_.up, m.up_lora, p.hu, tokens_, first, count, p.up);
    }
    Products projections;
    projections.add(chained(gates, count_));
    projections.add(chained(ups, count_));
    multiply(k_, projections, buffers_);
    release_rows(shared_.gate, first, count);
    release_rows(shared_.up, first, count);
  }

  /// a of a tile, packed, and what it adds to hd.
  void activate(int64_t first, int64_t count) {
    const int64_t block = k_.tiles.block, blocks = divide_up(tokens_, block);
    const bool last = first + count == shared_.gate.rows;
    const auto activate =
        shared_.activation == Activation::gelu ? k_.rows.gelu_mul : k_.rows.silu_mul;
    LowRanks products[kMostTogether];
    for (int64_t i = 0; i < count_; ++i) {
      LowRanks whole;
      whole.add(parts_[i].hd);
      products[i] = whole.of_stretch(first, last);
    }
    parallel_short(count_ * blocks, kLeastBlocks, [&](int64_t begin, int64_t end, int thread) {
      for_each_part(blocks, begin, end, [&](int64_t i, int64_t from, int64_t to) {
        const Part& p = parts_[i];
        const int64_t at = from * block * count;
        const int64_t floats = min(tokens_, to * block) * count - at;
        activate(p.gate + at, p.up + at, floats, p.gate + at);
        pack_blocks_with(k_, {p.gate, count, 1}, tokens_, count, products[i], from, to, p.packed,
                         buffers_.of(thread));
      });
    });
  }

  /// What a tile adds to y.
  void descend(int64_t first, int64_t count) {
    const int64_t size = shared_.gate.depth;
    const bool last = first + count == shared_.gate.rows;
    Product products[kMostTogether];
    for (int64_t i = 0; i < count_; ++i) {
      const Part& p = parts_[i];
      products[i] = Product(k_.arithmetic, tokens_, size, p.y, size, first > 0);
      products[i].add({p.packed, count}, weight_rows(shared_.down, 0, first));
      if (last && p.hd.rank > 0) {
        products[i].add({p.hd.packed, p.hd.rank, &k_.float32},
                        transposed(p.m->down_lora.b, p.hd.rank));
      }
    }
    multiply(k_, chained(products, count_), buffers_);
  }

  const Kernels& k_;
  const Mlp& shared_;  // the weights of all
  const int64_t count_, tokens_;
  Scratch scratch_;
  const RightBuffers buffers_;
  Part parts_[kMostTogether];
};

}  // namespace

void Kernels::mlp(const float* x, int64_t tokens, const Mlp& weights, float* y) const {
  if (are_few(*this, tokens)) return few_rows_mlp(*this, x, tokens, weights, y);
  const MlpSequence sequence{x, weights, y};
  mlp_together(&sequence, 1, tokens);
}

void Kernels::mlp_together(const MlpSequence* sequences, int64_t count, int64_t tokens) const {
  for_parts(tiles, tokens, tiles.tokens, [&](int64_t first, int64_t part) {
    Parts(*this, sequences, count, first, part).run();
  });
}

}  // namespace toolkit
