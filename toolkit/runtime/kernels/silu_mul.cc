// silu(gate) * up as an operator of its own, for the lowering that keeps gate and up (mebp); the
// fused MLP applies the same to its tiles.
#include "kernels/elementwise.h"
#include "kernels/parallel.h"
#include "kernels/primitives.h"

namespace toolkit {

void Kernels::silu_mul(const float* gate, const float* up, int64_t count, float* out) const {
  parallel_short(count, kLeastFloats, [&](int64_t begin, int64_t end, int) {
    rows.silu_mul(gate + begin, up + begin, end - begin, out + begin);
  });
}

void Kernels::silu_mul_backward(const float* grad, const float* gate, const float* up,
                                int64_t count, float* dgate, float* dup) const {
  parallel_short(count, kLeastFloats, [&](int64_t begin, int64_t end, int) {
    rows.silu_mul_backward(grad + begin, gate + begin, up + begin, end - begin, nullptr,
                           dgate + begin, dup + begin);
  });
}

}  // namespace toolkit
