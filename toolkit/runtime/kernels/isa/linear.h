// Pieces the linear layer, the MLP and the loss head share.
#pragma once

#include "kernels/isa/gemm.h"
#include "kernels/workspace.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// Sequences are worked on in equal parts of about so many tokens: enough to repay the unpacking of
/// a weight, and few enough that scratch stops growing with the sequence.
constexpr int64_t kTokens = 256;

/// Tokens of a part of a sequence; the last part may be shorter.
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

/// Tells the release hook that codes and parameters of w have been read for the last time.
void release_weight(const QuantizedMatrix& w);

/// scale * data [rows, depth] as a left operand.
Left pack_rows_of(Scratch& scratch, const float* data, int64_t rows, int64_t depth, float scale);

/// scale * dataᵀ as a left operand, data [rows, columns].
Left pack_columns_of(Scratch& scratch, const float* data, int64_t rows, int64_t columns,
                     float scale);

/// out [rank, columns] (+)= low_rank [rank, T] · full [T, columns].
void rank_gradient(const Left& low_rank, int64_t rank, const float* full, int64_t columns,
                   int64_t stride, bool accumulate, float* out, float* buffers);

/// The same, written as out [columns, rank].
void rank_gradient_transposed(const Left& low_rank, int64_t rank, const float* full,
                              int64_t columns, int64_t stride, bool accumulate, float* out,
                              float* buffers);

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
