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

void mlp_part(const Kernels& k, const float* x, int64_t tokens, const Mlp& m, float* y) {
  Scratch scratch;
  const int64_t size = m.gate.depth, features = m.gate.rows;
  const int64_t tile = k.tiles.features, block = k.tiles.block;
  const RightBuffers buffers(k, scratch);
  const LowRank hg = adapter_input(k, scratch, m.gate_lora, tokens, size, m.scaling);
  const LowRank hu = adapter_input(k, scratch, m.up_lora, tokens, size, m.scaling);
  const LowRank hd = adapter_input(k, scratch, m.down_lora, tokens, features, m.scaling);
  LowRanks input_products, act_products;
  input_products.add(hg);
  input_products.add(hu);
  act_products.add(hd);
  void* room = left_room(k, k.arithmetic, scratch, tokens, size);
  const Left input = pack_left_with(k, {x, size, 1}, tokens, size, input_products, room, buffers);
  float* gate = scratch.floats(tokens * tile);
  float* up = scratch.floats(tokens * tile);
  void* packed = left_room(k, k.arithmetic, scratch, tokens, tile);
  const bool gelu = m.activation == Activation::gelu;
  const auto activate = gelu ? k.rows.gelu_mul : k.rows.silu_mul;

  for (int64_t first = 0; first < features; first += tile) {
    const int64_t count = min(tile, features - first);
    const bool last = first + count == features;
    Products projections;
    projections.add(tile_projection(k, input, m.gate, m.gate_lora, hg, tokens, first, count, gate));
    projections.add(tile_projection(k, input, m.up, m.up_lora, hu, tokens, first, count, up));
    multiply(k, projections, buffers);
    release_rows(m.gate, first, count);
    release_rows(m.up, first, count);

    const LowRanks products = act_products.of_stretch(first, last);
    parallel_short(divide_up(tokens, block), kLeastBlocks,
                   [&](int64_t begin, int64_t end, int thread) {
                     const int64_t at = begin * block * count;
                     const int64_t floats = min(tokens, end * block) * count - at;
                     activate(gate + at, up + at, floats, gate + at);
                     pack_blocks_with(k, {gate, count, 1}, tokens, count, products, begin, end,
                                      packed, buffers.of(thread));
                   });

    Product down(k.arithmetic, tokens, size, y, size, first > 0);
    down.add({packed, count}, weight_rows(m.down, 0, first));
    if (last && hd.rank > 0) {
      down.add({hd.packed, hd.rank, &k.float32}, transposed(m.down_lora.b, hd.rank));
    }
    multiply(k, down, buffers);
  }
  release_rest_of(m.gate);
  release_rest_of(m.up);
  release_weight(m.down);
}

}  // namespace

void Kernels::mlp(const float* x, int64_t tokens, const Mlp& weights, float* y) const {
  if (are_few(*this, tokens)) return few_rows_mlp(*this, x, tokens, weights, y);
  const int64_t size = weights.gate.depth;
  for_parts(tiles, tokens, tiles.tokens, [&](int64_t first, int64_t count) {
    mlp_part(*this, x + first * size, count, weights, y + first * size);
  });
}

}  // namespace toolkit
