// Pieces the forward and the backward of the fused MLP share.
#pragma once

#include "kernels/low_rank.h"

namespace toolkit {

/// out [tokens, count] = input W[first : first + count]ᵀ + low_rank b[first : first + count]ᵀ.
Product tile_projection(const Kernels& k, const Left& input, const QuantizedMatrix& w,
                        const Adapter& lora, const LowRank& low_rank, int64_t tokens, int64_t first,
                        int64_t count, float* out);

}  // namespace toolkit
