// SwiGLU MLP with LoRA, forward, in one sweep over tiles of F columns:
//
//   G = n Wg[j]ᵀ + s hg Bg[j]ᵀ, U likewise, a = silu(G) * U, y += a Wd[:,j]ᵀ, hd += a Ad[:,j]ᵀ
//   at the end y += s hd Bdᵀ                                           with hg = n Agᵀ, hu = n Auᵀ
//
// Gate, up and activation exist for one tile (T x kTile) at a time, T one part of the sequence.
#include "kernels/isa/mlp.h"

#include "kernels/isa/elementwise.h"
#include "kernels/parallel.h"
#include "kernels/release.h"

namespace toolkit {
namespace TOOLKIT_ISA {

void release_rows(const QuantizedMatrix& w, int64_t row, int64_t rows) {
  const int64_t panel = row / kPanel, panels = rows / kPanel;
  const int64_t parameters = w.depth / 32 * kPanel;  // of one panel
  const size_t bytes = panels * parameters * sizeof(uint16_t);
  release(w.codes + panel * w.panel_bytes(), panels * w.panel_bytes());
  release(w.scale + panel * parameters, bytes);
  if (w.offset != nullptr) release(w.offset + panel * parameters, bytes);
}

Product tile_projection(const Left& input, const QuantizedMatrix& w, const Adapter& lora,
                        const LowRank& low_rank, int64_t tokens, int64_t first, int64_t count,
                        float* out) {
  Product product(tokens, count, out, count);
  product.add(input, weight_rows(w, first));
  if (lora.b != nullptr) {
    product.add({low_rank.packed, lora.rank}, transposed(lora.b + first * lora.rank, lora.rank));
  }
  return product;
}

namespace {

void mlp_part(const float* x, int64_t tokens, const Mlp& m, float* y) {
  Scratch scratch;
  const int64_t size = m.gate.depth, features = m.gate.rows;
  float* buffers = right_buffers(scratch);
  const LowRank hg = adapter_input(scratch, m.gate_lora, tokens, size, m.scaling);
  const LowRank hu = adapter_input(scratch, m.up_lora, tokens, size, m.scaling);
  const LowRank hd = adapter_input(scratch, m.down_lora, tokens, features, m.scaling);
  LowRanks input_products, act_products;
  input_products.add(hg);
  input_products.add(hu);
  act_products.add(hd);
  const Left input = pack_left_with({x, size, 1}, tokens, size, input_products,
                                    scratch.floats(left_floats(tokens, size)), buffers);
  float* gate = scratch.floats(tokens * kTile);
  float* up = scratch.floats(tokens * kTile);
  float* packed = scratch.floats(left_floats(tokens, kTile));

  for (int64_t first = 0; first < features; first += kTile) {
    const int64_t count = min(kTile, features - first);
    const bool last = first + count == features;
    Products projections;
    projections.add(tile_projection(input, m.gate, m.gate_lora, hg, tokens, first, count, gate));
    projections.add(tile_projection(input, m.up, m.up_lora, hu, tokens, first, count, up));
    multiply(projections, buffers);
    release_rows(m.gate, first, count);
    release_rows(m.up, first, count);

    const LowRanks products = act_products.of_stretch(first, last);
    parallel_short(divide_up(tokens, kBlock), kLeastBlocks,
                   [&](int64_t begin, int64_t end, int thread) {
                     const int64_t at = begin * kBlock * count,
                                   floats = min(tokens, end * kBlock) * count - at;
                     silu_mul_part(gate + at, up + at, floats, gate + at);
                     pack_left_blocks_with({gate, count, 1}, tokens, count, products, begin, end,
                                           packed, buffers + thread * kRightFloats);
                   });

    Product down(tokens, size, y, size, first > 0);
    down.add({packed, count}, weight_rows(m.down, 0, first));
    if (last && hd.rank > 0) down.add({hd.packed, hd.rank}, transposed(m.down_lora.b, hd.rank));
    multiply(down, buffers);
  }
  release_weight(m.gate, release_rest);
  release_weight(m.up, release_rest);
  release_weight(m.down);
}

}  // namespace

void mlp(const float* x, int64_t tokens, const Mlp& m, float* y) {
  const int64_t size = m.gate.depth;
  for_parts(tokens, kTokens, [&](int64_t first, int64_t count) {
    mlp_part(x + first * size, count, m, y + first * size);
  });
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
