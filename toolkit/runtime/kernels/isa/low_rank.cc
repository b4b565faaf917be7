// Low-rank products beside the packing of what they read, and the products that give the adapters'
// gradients.
#include "kernels/isa/linear.h"
#include "kernels/parallel.h"

namespace toolkit {
namespace TOOLKIT_ISA {

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

LowRank packed_low_rank(Scratch& scratch, const Right& factor, int64_t rows, int64_t rank,
                        float scaling, float* out) {
  LowRank result;
  result.factor = factor;
  result.rank = rank;
  result.out = out != nullptr ? out : scratch.floats(rows * rank);
  result.packed = scratch.floats(left_floats(rows, rank));
  result.scaling = scaling;
  return result;
}

LowRank adapter_input(Scratch& scratch, const Adapter& lora, int64_t rows, int64_t depth,
                      float scaling, float* out) {
  if (lora.a == nullptr) return {};
  return packed_low_rank(scratch, transposed(lora.a, depth), rows, lora.rank, scaling, out);
}

void pack_left_blocks_with(const View& view, int64_t rows, int64_t depth, const LowRanks& low_ranks,
                           int64_t first, int64_t last, float* out, float* buffer) {
  pack_left_blocks(view, rows, depth, 1.0f, first, last, out);
  for (int i = 0; i < low_ranks.count; ++i) {
    const LowRank& r = low_ranks.list[i];
    Product product(rows, r.rank, r.out, r.rank, r.accumulate);
    product.add({out, depth}, r.factor);
    for (int64_t group = 0; group < product.groups(); ++group) {
      multiply_group(product, group, first, last, buffer);
    }
    if (r.packed != nullptr) {
      pack_left_blocks({r.out, r.rank, 1}, rows, r.rank, r.scaling, first, last, r.packed);
    }
  }
}

Left pack_left_with(const View& view, int64_t rows, int64_t depth, const LowRanks& low_ranks,
                    float* out, float* buffers) {
  parallel_short(divide_up(rows, kBlock), kLeastBlocks,
                 [&](int64_t begin, int64_t end, int thread) {
                   pack_left_blocks_with(view, rows, depth, low_ranks, begin, end, out,
                                         buffers + thread * kRightFloats);
                 });
  return {out, depth};
}

Product rank_gradient(const Left& low_rank, int64_t rank, const float* full, int64_t columns,
                      bool accumulate, float* out, int64_t stride) {
  Product product(rank, columns, out, stride, accumulate);
  product.add(low_rank, plain_right(full, columns));
  return product;
}

Product rank_gradient_transposed(const Left& low_rank, int64_t rank, const float* full,
                                 int64_t columns, bool accumulate, float* out) {
  Product product = rank_gradient(low_rank, rank, full, columns, accumulate, out, rank);
  product.transposed = true;
  return product;
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
