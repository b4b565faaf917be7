// silu(gate) * up, or gelu(gate) * up, as an operator of its own, for the lowering that keeps gate
// and up (mebp), side by side or as the halves of one tensor's rows; the fused MLP applies the same
// to its tiles.
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

void Kernels::gelu_mul(const float* gate, const float* up, int64_t count, float* out) const {
  parallel_short(count, kLeastFloats, [&](int64_t begin, int64_t end, int) {
    rows.gelu_mul(gate + begin, up + begin, end - begin, out + begin);
  });
}

void Kernels::gelu_mul_backward(const float* grad, const float* gate, const float* up,
                                int64_t count, float* dgate, float* dup) const {
  parallel_short(count, kLeastFloats, [&](int64_t begin, int64_t end, int) {
    rows.gelu_mul_backward(grad + begin, gate + begin, up + begin, end - begin, nullptr,
                           dgate + begin, dup + begin);
  });
}

void Kernels::swiglu(const float* gate_up, int64_t tokens, int64_t size, float* out) const {
  parallel_short(tokens, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* gate = gate_up + 2 * t * size;
      rows.silu_mul(gate, gate + size, size, out + t * size);
    }
  });
}

void Kernels::swiglu_backward(const float* grad, const float* gate_up, int64_t tokens, int64_t size,
                              float* out) const {
  parallel_short(tokens, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* gate = gate_up + 2 * t * size;
      float* dgate = out + 2 * t * size;
      rows.silu_mul_backward(grad + t * size, gate, gate + size, size, nullptr, dgate,
                             dgate + size);
    }
  });
}

}  // namespace toolkit
