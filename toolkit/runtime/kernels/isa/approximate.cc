// Activations and the two bits an element that their approximate gradient needs (Approx-BP, arXiv
// 2406.16282), and a norm whose backward reads what it returned.
//
// The code of x is the number of thresholds below it, 0 for NaN; four codes a byte, the first in
// the lowest bits.
#include <cmath>

#include "kernels/isa/elementwise.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

typedef uint32_t Words __attribute__((vector_size(4 * TOOLKIT_LANES)));

constexpr int kPerByte = kCodesPerByte;

/// How far the code of every lane is shifted.
TOOLKIT_INLINE Words shifts() {
  Words s{};
  for (int i = 0; i < kLanes; ++i) s[i] = 2 * i;
  return s;
}

/// A mask has -1 where it holds.
TOOLKIT_INLINE Words codes_of(Floats x, const ActivationSteps& steps) {
  Ints count{};
  for (const float threshold : steps.thresholds) count -= (Ints)(x > splat(threshold));
  return (Words)count;
}

void store_codes(Words codes, int count, uint8_t* out) {
  const Words placed = codes << shifts();
  uint32_t word = 0;
  for (int i = 0; i < count; ++i) word |= placed[i];
  for (int byte = 0; byte * kPerByte < count; ++byte) {
    out[byte] = static_cast<uint8_t>(word >> (8 * byte));
  }
}

TOOLKIT_INLINE Words load_codes(const uint8_t* codes, int count) {
  uint32_t word = 0;
  for (int byte = 0; byte * kPerByte < count; ++byte) {
    word |= static_cast<uint32_t>(codes[byte]) << (8 * byte);
  }
  return ((word - Words{}) >> shifts()) & 3;
}

}  // namespace

void silu_codes(const float* x, int64_t count, const ActivationSteps& steps, float* y,
                uint8_t* codes) {
  for_vectors(0, count, [&](int64_t i, int n) {
    const Floats v = load_part(x + i, n);
    store_part(y + i, v * sigmoid(v), n);
    store_codes(codes_of(v, steps), n, codes + i / kPerByte);
  });
}

void gelu_codes(const float* x, int64_t count, const ActivationSteps& steps, float* y,
                uint8_t* codes) {
  for_vectors(0, count, [&](int64_t i, int n) {
    const Floats v = load_part(x + i, n);
    store_part(y + i, gelu_of(v).value, n);
    store_codes(codes_of(v, steps), n, codes + i / kPerByte);
  });
}

void code_slopes(const float* grad, const uint8_t* codes, int64_t count,
                 const ActivationSteps& steps, float* out) {
  for_vectors(0, count, [&](int64_t i, int n) {
    const Words code = load_codes(codes + i / kPerByte, n);
    Floats slope{};
    for (uint32_t k = 1; k <= 3; ++k) {
      slope = select((Ints)(code == k), splat(steps.slopes[k - 1]), slope);
    }
    store_part(out + i, load_part(grad + i, n) * slope, n);
  });
}

void multiply_rows(const float* a, const float* b, int64_t count, float* out) {
  for_vectors(0, count, [&](int64_t i, int n) {
    store_part(out + i, load_part(a + i, n) * load_part(b + i, n), n);
  });
}

void normalize(const float* x, int64_t rows, int64_t size, float eps, float* y, float* rstd) {
  for (int64_t t = 0; t < rows; ++t) {
    const float* row = x + t * size;
    const float r = static_cast<float>(1 / std::sqrt(mean_square(row, size, eps)));
    scale(row, r, size, y + t * size);
    rstd[t] = r;
  }
}

// In double, for the reason that rms_norm_backward gives.
void normalize_backward(const float* grad, const float* y, const float* rstd, int64_t rows,
                        int64_t size, float* dx) {
  for (int64_t t = 0; t < rows; ++t) {
    const float* row = y + t * size;
    const float* g = grad + t * size;
    Doubles products{};
    for_vectors(0, size, [&](int64_t i, int n) {
      products += widen(load_part(g + i, n)) * widen(load_part(row + i, n));
    });
    const double mean = sum(products) / static_cast<double>(size);
    for_vectors(0, size, [&](int64_t i, int n) {
      const Doubles difference = widen(load_part(g + i, n)) - widen(load_part(row + i, n)) * mean;
      store_part(dx + t * size + i, narrow(difference * static_cast<double>(rstd[t])), n);
    });
  }
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
