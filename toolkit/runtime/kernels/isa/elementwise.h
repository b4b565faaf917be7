// Single-threaded pieces of the SwiGLU activation, for the fused MLP.
#pragma once

#include "kernels/isa/simd.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// out = silu(gate) * up.
void silu_mul_part(const float* gate, const float* up, int64_t count, float* out);

/// dgate = grad * up * silu'(gate), dup = grad * silu(gate), and act = silu(gate) * up unless it is
/// null. Outputs may be the inputs.
void silu_mul_backward_part(const float* grad, const float* gate, const float* up, int64_t count,
                            float* act, float* dgate, float* dup);

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
