// Low-rank products beside the packing of what they read, and the products that give the adapters'
// gradients.
//
// The forward of y = x Wᵀ + s (x aᵀ) bᵀ, for one stretch of the depth that is all of it:
//
//   LowRank h = adapter_input(k, scratch, lora, T, K, s);   // room for x aᵀ, and for it packed
//   LowRanks products;  products.add(h);
//   PackedRows rows{view of x, products, room};
//   pack_rows_with(k, &rows, 1, T, K, buffers);             // packs x, makes h
//   Product y(k.arithmetic, T, N, out, N);
//   y.add({room, K}, weight_rows(w)).add({h.packed, R, &k.float32}, transposed(lora.b, R));
//   multiply(k, y, buffers);
#pragma once

#include "kernels/multiply.h"

namespace toolkit {

/// A product that reads rows which are being packed, while they are hot:
/// out [rows, rank] (+)= rows · factor. Where `packed` is given, it becomes scaling * out as a left
/// operand.
struct LowRank {
  Right factor;
  int64_t rank = 0;
  float* out = nullptr;
  bool accumulate = false;
  void* packed = nullptr;
  float scaling = 1;
};

struct LowRanks {
  LowRank list[3];
  int count = 0;

  /// Adds a product; those of rank 0 (no adapter) are left out.
  void add(const LowRank& low_rank) {
    if (low_rank.rank > 0) list[count++] = low_rank;
  }

  /// What the stretch of the depth that begins at `first` adds; only the last one packs the sums.
  LowRanks of_stretch(int64_t first, bool last) const;
};

/// A low-rank product with its result at `out`, or from `scratch` if null; also packed, scaled.
LowRank packed_low_rank(const Kernels& k, Scratch& scratch, const Right& factor, int64_t rows,
                        int64_t rank, float scaling, float* out = nullptr);

/// The same for an adapter's input, x aᵀ with x [rows, depth]; rank 0 if there is no adapter.
LowRank adapter_input(const Kernels& k, Scratch& scratch, const Adapter& lora, int64_t rows,
                      int64_t depth, float scaling, float* out = nullptr);

/// Packs row blocks [first, last) of view [rows, depth] for a product with a weight, and computes
/// the low-rank products of the same blocks.
void pack_blocks_with(const Kernels& k, const View& view, int64_t rows, int64_t depth,
                      const LowRanks& low_ranks, int64_t first, int64_t last, void* out,
                      void* buffer);

/// Row blocks worth a range of their own, for which the factors of the products are packed again.
constexpr int64_t kLeastBlocks = 4;

/// Rows that are packed, into `out`, with the low-rank products of them.
struct PackedRows {
  View view;
  LowRanks low_ranks;
  void* out;
};

/// The same for all row blocks of several matrices [rows, depth], in parallel.
void pack_rows_with(const Kernels& k, const PackedRows* list, int64_t count, int64_t rows,
                    int64_t depth, const RightBuffers& buffers);

/// out [rank, columns] (+)= low_rank [rank, T] · full [T, columns].
Product rank_gradient(const Kernels& k, const Left& low_rank, int64_t rank, const float* full,
                      int64_t columns, bool accumulate, float* out, int64_t stride);

/// The same, written as out [columns, rank].
Product rank_gradient_transposed(const Kernels& k, const Left& low_rank, int64_t rank,
                                 const float* full, int64_t columns, bool accumulate, float* out);

}  // namespace toolkit
