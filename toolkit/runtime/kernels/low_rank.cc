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

namespace {

/// out (+)= left · the factor, of the row blocks [first, last).
void multiply_blocks(const Kernels& k, const LowRank& r, const Left& left, const Right& factor,
                     int64_t row, int64_t rows, bool accumulate, int64_t first, int64_t last,
                     void* buffer) {
  Product product(k.float32, rows, r.rank, r.out + row * r.rank, r.rank, accumulate);
  product.add(left, factor);
  for (int64_t group = 0; group < divide_up(r.rank, k.tiles.group); ++group) {
    k.float32.multiply_groups(product, group, 1, first, last, buffer);
  }
}

/// Low-rank products of row blocks that are packed in another arithmetic than theirs, float32: the
/// rows are packed for them a piece at a time, in what a piece of a factor leaves of the buffer.
void multiply_pieces(const Kernels& k, const View& view, int64_t rows, int64_t depth,
                     const LowRanks& low_ranks, int64_t first, int64_t last, void* buffer) {
  // The same for every split of the blocks: it decides where sums are rounded.
  constexpr int64_t kDepth = 256;
  const int64_t block = k.tiles.block;
  const int64_t factor_bytes = kDepth * k.tiles.group * static_cast<int64_t>(sizeof(float));
  const int64_t most = (k.float32.buffer_bytes(k.tiles) - factor_bytes) /
                       k.float32.left_bytes(k.tiles, block, kDepth);
  void* piece = static_cast<char*>(buffer) + factor_bytes;
  for (int64_t begin = first; begin < last; begin += most) {
    const int64_t blocks = min(most, last - begin), row = begin * block;
    const int64_t count = min(rows, (begin + blocks) * block) - row;
    for (int64_t at = 0; at < depth; at += kDepth) {
      const int64_t part = min(kDepth, depth - at);
      const View in{view.data + row * view.row_stride + at, view.row_stride, 1};
      k.float32.pack_left(in, count, part, 1.0f, 0, blocks, piece);
      for (int i = 0; i < low_ranks.count; ++i) {
        const LowRank& r = low_ranks.list[i];
        Right factor = r.factor;
        factor.depth0 += at;
        multiply_blocks(k, r, {piece, part}, factor, row, count, r.accumulate || at > 0, 0, blocks,
                        buffer);
      }
    }
  }
}

}  // namespace

void pack_blocks_with(const Kernels& k, const View& view, int64_t rows, int64_t depth,
                      const LowRanks& low_ranks, int64_t first, int64_t last, void* out,
                      void* buffer) {
  k.arithmetic.pack_left(view, rows, depth, 1.0f, first, last, out);
  const bool as_packed = &k.arithmetic == &k.float32;
  if (!as_packed && low_ranks.count > 0) {
    multiply_pieces(k, view, rows, depth, low_ranks, first, last, buffer);
  }
  for (int i = 0; i < low_ranks.count; ++i) {
    const LowRank& r = low_ranks.list[i];
    if (as_packed) {
      multiply_blocks(k, r, {out, depth}, r.factor, 0, rows, r.accumulate, first, last, buffer);
    }
    if (r.packed != nullptr) {
      k.float32.pack_left({r.out, r.rank, 1}, rows, r.rank, r.scaling, first, last, r.packed);
    }
  }
}

void pack_rows_with(const Kernels& k, const PackedRows* list, int64_t count, int64_t rows,
                    int64_t depth, const RightBuffers& buffers) {
  const int64_t blocks = divide_up(rows, k.tiles.block);
  const auto pack = [&](int64_t begin, int64_t end, int thread) {
    for_each_part(blocks, begin, end, [&](int64_t i, int64_t first, int64_t last) {
      pack_blocks_with(k, list[i].view, rows, depth, list[i].low_ranks, first, last, list[i].out,
                       buffers.of(thread));
    });
  };
  parallel_short(count * blocks, kLeastBlocks, pack);
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
