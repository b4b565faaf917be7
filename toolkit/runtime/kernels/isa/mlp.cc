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

void low_rank(const Left& input, int64_t tokens, const Right& factor, int64_t rank, float* out,
              float* buffers) {
  multiply(Product(tokens, rank, out, rank).add(input, factor), buffers);
}

Left low_rank_input(Scratch& scratch, const Left& input, int64_t tokens, const Adapter& lora,
                    int64_t depth, float scaling, float* buffers, float** kept) {
  if (lora.a == nullptr) return {};
  float* h = scratch.floats(tokens * lora.rank);
  low_rank(input, tokens, transposed(lora.a, depth), lora.rank, h, buffers);
  if (kept != nullptr) *kept = h;
  return pack_rows_of(scratch, h, tokens, lora.rank, scaling);
}

Product tile_projection(const Left& input, const QuantizedMatrix& w, const Adapter& lora,
                        const Left& low_rank, int64_t tokens, int64_t first, int64_t count,
                        float* out) {
  Product product(tokens, count, out, count);
  product.add(input, weight_rows(w, first));
  if (lora.b != nullptr) product.add(low_rank, transposed(lora.b + first * lora.rank, lora.rank));
  return product;
}

namespace {

void mlp_part(const float* x, int64_t tokens, const Mlp& m, float* y) {
  Scratch scratch;
  const int64_t size = m.gate.depth, features = m.gate.rows;
  float* buffers = right_buffers(scratch);
  const Left input = pack_rows_of(scratch, x, tokens, size, 1.0f);
  const Left hg =
      low_rank_input(scratch, input, tokens, m.gate_lora, size, m.scaling, buffers, nullptr);
  const Left hu =
      low_rank_input(scratch, input, tokens, m.up_lora, size, m.scaling, buffers, nullptr);
  const int64_t rank = m.down_lora.rank;
  float* hd = m.down_lora.a != nullptr ? scratch.floats(tokens * rank) : nullptr;
  float* gate = scratch.floats(tokens * kTile);
  float* up = scratch.floats(tokens * kTile);
  float* packed = scratch.floats(left_floats(tokens, kTile));

  for (int64_t first = 0; first < features; first += kTile) {
    const int64_t count = min(kTile, features - first);
    const Product g = tile_projection(input, m.gate, m.gate_lora, hg, tokens, first, count, gate);
    const Product u = tile_projection(input, m.up, m.up_lora, hu, tokens, first, count, up);
    const int64_t tasks = g.groups() * g.blocks();
    parallel_balanced(2 * tasks, g.blocks(), [&](int64_t begin, int64_t end, int thread) {
      float* buffer = buffers + thread * kRightFloats;
      if (begin < tasks) multiply_range(g, begin, min(end, tasks), buffer);
      if (end > tasks) multiply_range(u, max(begin, tasks) - tasks, end - tasks, buffer);
    });
    release_rows(m.gate, first, count);
    release_rows(m.up, first, count);

    const Left act{packed, count};
    Product h(tokens, rank, hd, rank, first > 0);
    if (hd != nullptr) h.add(act, transposed(m.down_lora.a + first, features));
    parallel(divide_up(tokens, kBlock), [&](int64_t begin, int64_t end, int thread) {
      const int64_t row0 = begin * kBlock, row1 = min(tokens, end * kBlock);
      silu_mul_part(gate + row0 * count, up + row0 * count, (row1 - row0) * count,
                    gate + row0 * count);
      pack_left_blocks({gate, count, 1}, tokens, count, 1.0f, begin, end, packed);
      if (hd == nullptr) return;
      for (int64_t group = 0; group < h.groups(); ++group) {
        multiply_group(h, group, begin, end, buffers + thread * kRightFloats);
      }
    });

    Product down(tokens, size, y, size, first > 0);
    down.add(act, weight_rows(m.down, 0, first));
    if (hd != nullptr && first + count == features) {
      down.add(pack_rows_of(scratch, hd, tokens, rank, m.scaling), transposed(m.down_lora.b, rank));
    }
    multiply(down, buffers);
  }
  release_weight(m.gate);
  release_weight(m.up);
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
