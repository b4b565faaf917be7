// Pieces the linear layer, the MLP and the loss head share.
#pragma once

#include "kernels/isa/gemm.h"
#include "kernels/release.h"
#include "kernels/workspace.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// Sequences are worked on in equal parts of about so many tokens: enough to repay the unpacking of
/// a weight, and few enough that scratch stops growing with the sequence.
constexpr int64_t kTokens = 256;

/// Tokens of a part of a sequence: equal parts of about `wanted` in whole row blocks, of which the
/// last may be shorter.
inline int64_t part_tokens(int64_t tokens, int64_t wanted) {
  const int64_t parts = max(1, (tokens + wanted / 2 - 1) / wanted);
  return min(tokens, round_up(divide_up(tokens, parts), kBlock));
}

/// Calls body(first, count) for every part.
template <typename Body>
void for_parts(int64_t tokens, int64_t wanted, Body body) {
  const int64_t step = part_tokens(tokens, wanted);
  for (int64_t first = 0; first < tokens; first += step) body(first, min(step, tokens - first));
}

/// Buffers for `multiply`, one slice a thread.
float* right_buffers(Scratch& scratch);

/// Tells the release hook that codes and parameters of w have been read for the last time; `tell`
/// is release_rest where rows were released one after the other.
void release_weight(const QuantizedMatrix& w,
                    void (*tell)(const void* data, size_t bytes) = release);

/// scale * data [rows, depth] as a left operand.
Left pack_rows_of(Scratch& scratch, const float* data, int64_t rows, int64_t depth, float scale);

/// scale * dataᵀ as a left operand, data [rows, columns].
Left pack_columns_of(Scratch& scratch, const float* data, int64_t rows, int64_t columns,
                     float scale);

/// A product that reads rows which are being packed, while they are hot:
/// out [rows, rank] (+)= rows · factor. Where `packed` is given, it becomes scaling * out as a left
/// operand.
struct LowRank {
  Right factor;
  int64_t rank = 0;
  float* out = nullptr;
  bool accumulate = false;
  float* packed = nullptr;
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
LowRank packed_low_rank(Scratch& scratch, const Right& factor, int64_t rows, int64_t rank,
                        float scaling, float* out = nullptr);

/// The same for an adapter's input, x aᵀ with x [rows, depth]; rank 0 if there is no adapter.
LowRank adapter_input(Scratch& scratch, const Adapter& lora, int64_t rows, int64_t depth,
                      float scaling, float* out = nullptr);

/// pack_left_blocks (scale 1), and the low-rank products of the same row blocks. buffer:
/// kRightFloats floats.
void pack_left_blocks_with(const View& view, int64_t rows, int64_t depth, const LowRanks& low_ranks,
                           int64_t first, int64_t last, float* out, float* buffer);

/// Row blocks worth a range of their own, for which the factors of the products are packed again.
constexpr int64_t kLeastBlocks = 4;

/// The same for all row blocks, in parallel. buffers: kRightFloats floats a thread.
Left pack_left_with(const View& view, int64_t rows, int64_t depth, const LowRanks& low_ranks,
                    float* out, float* buffers);

/// out [rank, columns] (+)= low_rank [rank, T] · full [T, columns].
Product rank_gradient(const Left& low_rank, int64_t rank, const float* full, int64_t columns,
                      bool accumulate, float* out, int64_t stride);

/// The same, written as out [columns, rank].
Product rank_gradient_transposed(const Left& low_rank, int64_t rank, const float* full,
                                 int64_t columns, bool accumulate, float* out);

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
