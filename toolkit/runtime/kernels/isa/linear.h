// Pieces the linear layer, the MLP and the loss head share.
#pragma once

#include "kernels/isa/gemm.h"
#include "kernels/workspace.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// Buffers for `multiply`, one slice a thread.
float* right_buffers(Scratch& scratch);

/// Tells the release hook that codes and parameters of w have been read for the last time.
void release_weight(const QuantizedMatrix& w);

/// scale * data [rows, depth] as a left operand.
Left pack_rows_of(Scratch& scratch, const float* data, int64_t rows, int64_t depth, float scale);

/// scale * dataᵀ as a left operand, data [rows, columns].
Left pack_columns_of(Scratch& scratch, const float* data, int64_t rows, int64_t columns,
                     float scale);

/// out [rank, columns] = low_rank [rank, T] · full [T, columns].
void rank_gradient(const Left& low_rank, int64_t rank, const float* full, int64_t columns,
                   int64_t stride, float* out, float* buffers);

/// The same, written as out [columns, rank].
void rank_gradient_transposed(const Left& low_rank, int64_t rank, const float* full,
                              int64_t columns, int64_t stride, float* out, float* buffers);

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
