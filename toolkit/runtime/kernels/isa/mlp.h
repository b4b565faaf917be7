// Pieces the forward and the backward of the fused MLP share.
#pragma once

#include "kernels/isa/linear.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// Columns of F handled at a time: long enough to be the depth of the products that leave the tile.
constexpr int64_t kTile = 256;

/// Tells the release hook that the codes of rows [row, row + rows) have been read for the last
/// time.
void release_rows(const QuantizedMatrix& w, int64_t row, int64_t rows);

/// out [tokens, count] = input W[first : first + count]ᵀ + low_rank b[first : first + count]ᵀ.
Product tile_projection(const Left& input, const QuantizedMatrix& w, const Adapter& lora,
                        const LowRank& low_rank, int64_t tokens, int64_t first, int64_t count,
                        float* out);

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
