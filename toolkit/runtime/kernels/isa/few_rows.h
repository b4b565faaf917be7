// Products of a few rows of floats, see few_rows.cc.
#pragma once

#include "kernels/isa/simd.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// x with every element twice, and the sums of its groups of 32.
void double_row(const float* x, int64_t depth, void* out);
void multiply_panel(const QuantizedMatrix& w, int64_t panel, const void* rows, int64_t count,
                    float* y, int64_t stride);

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
