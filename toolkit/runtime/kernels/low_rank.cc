#include "kernels/low_rank.h"

#include "kernels/parallel.h"

namespace toolkit {

LowRanks LowRanks::of_stretch(int64_t first, bool last) const {
  LowRanks result = *this;
  for (int i = 0; i < count; ++i) {
    LowRank& part = result.list[i];
    part.factor.depth0 += first;
    part.accumulate = first > 0;
    if (!last) part.packed = nullptr;
  }
  return result;
}

LowRank packed_low_rank(const Kernels& k, Scratch& scratch, const Right& factor, int64_t rows,
                        int64_t rank, float scaling, float* out) {
  LowRank result;
  result.factor = factor;
  result.rank = rank;
  result.out = out != nullptr ? out : scratch.floats(rows * rank);
  result.packed = left_room(k, k.float32, scratch, rows, rank);
  result.scaling = scaling;
  return result;
}

LowRank adapter_input(const Kernels& k, Scratch& scratch, const Adapter& lora, int64_t rows,
                      int64_t depth, float scaling, float* out) {
  if (lora.a == nullptr) return {};
  return packed_low_rank(k, scratch, transposed(lora.a, depth), rows, lora.rank, scaling, out);
}

void pack_blocks_with(const Kernels& k, const View& view, int64_t rows, int64_t depth,
                      const LowRanks& low_ranks, int64_t first, int64_t last, void* out,
                      void* buffer) {
  k.arithmetic.pack_left(view, rows, depth, 1.0f, first, last, out);
  for (int i = 0; i < low_ranks.count; ++i) {
    const LowRank& r = low_ranks.list[i];
    Product product(k.arithmetic, rows, r.rank, r.out, r.rank, r.accumulate);
    product.add({out, depth}, r.factor);
    for (int64_t group = 0; group < divide_up(r.rank, k.tiles.group); ++group) {
      k.arithmetic.multiply_group(product, group, first, last, buffer);
    }
    if (r.packed != nullptr) {
      k.float32.pack_left({r.out, r.rank, 1}, rows, r.rank, r.scaling, first, last, r.packed);
    }
  }
}

Left pack_left_with(const Kernels& k, const View& view, int64_t rows, int64_t depth,
                    const LowRanks& low_ranks, void* out, const RightBuffers& buffers) {
  parallel_short(
      divide_up(rows, k.tiles.block), kLeastBlocks, [&](int64_t begin, int64_t end, int thread) {
        pack_blocks_with(k, view, rows, depth, low_ranks, begin, end, out, buffers.of(thread));
      });
  return {out, depth};
}

Product rank_gradient(const Kernels& k, const Left& low_rank, int64_t rank, const float* full,
                      int64_t columns, bool accumulate, float* out, int64_t stride) {
  Product product(k.float32, rank, columns, out, stride, accumulate);
  product.add(low_rank, plain_right(full, columns));
  return product;
}

Product rank_gradient_transposed(const Kernels& k, const Left& low_rank, int64_t rank,
                                 const float* full, int64_t columns, bool accumulate, float* out) {
  Product product = rank_gradient(k, low_rank, rank, full, columns, accumulate, out, rank);
  product.transposed = true;
  return product;
}

}  // namespace toolkit
