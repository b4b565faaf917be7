// Norm, rotary embedding, activation and the element-wise operations, row by row.
#include "kernels/isa/elementwise.h"

#include <cmath>

#include "kernels/isa/rows.h"
#include "kernels/isa/sincos.h"

namespace toolkit {
namespace TOOLKIT_ISA {

double mean_square(const float* x, int64_t size, float eps) {
  Doubles squares{};
  for_vectors(0, size, [&](int64_t i, int count) {
    const Doubles v = widen(load_part(x + i, count));
    squares += v * v;
  });
  return sum(squares) / static_cast<double>(size) + static_cast<double>(eps);
}

// Compiled once: inlined for whole vectors and for rests, products and sums would not be fused
// alike.
__attribute__((noinline)) Gelu gelu_of(Floats x) {
  constexpr float kTwice = 1.5957691216057308f;  // 2 √(2/π)
  const Floats square = x * x * 0.044715f;
  const Floats s = sigmoid(kTwice * x * (1.0f + square)), gelu = x * s;
  return {gelu, s + gelu * (1.0f - s) * (kTwice * (1.0f + 3.0f * square))};
}

void copy(const float* x, int64_t count, float* out) {
  __builtin_memcpy(out, x, count * sizeof(float));
}

void zero(float* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = 0;
}

void add(const float* a, const float* b, int64_t count, float* out) {
  for_vectors(0, count, [&](int64_t i, int n) {
    store_part(out + i, load_part(a + i, n) + load_part(b + i, n), n);
  });
}

void scale(const float* x, float factor, int64_t count, float* out) {
  for_vectors(0, count,
              [&](int64_t i, int n) { store_part(out + i, load_part(x + i, n) * factor, n); });
}

void silu_mul(const float* gate, const float* up, int64_t count, float* out) {
  for_vectors(0, count, [&](int64_t i, int n) {
    const Floats g = load_part(gate + i, n);
    store_part(out + i, g * sigmoid(g) * load_part(up + i, n), n);
  });
}

void silu_mul_backward(const float* grad, const float* gate, const float* up, int64_t count,
                       float* act, float* dgate, float* dup) {
  for_vectors(0, count, [&](int64_t i, int n) {
    const Floats g = load_part(gate + i, n), u = load_part(up + i, n), d = load_part(grad + i, n);
    const Floats s = sigmoid(g), silu = g * s;
    if (act != nullptr) store_part(act + i, silu * u, n);
    store_part(dgate + i, d * u * (s + silu * (1.0f - s)), n);
    store_part(dup + i, d * silu, n);
  });
}

void gelu_mul(const float* gate, const float* up, int64_t count, float* out) {
  for_vectors(0, count, [&](int64_t i, int n) {
    store_part(out + i, gelu_of(load_part(gate + i, n)).value * load_part(up + i, n), n);
  });
}

void gelu_mul_backward(const float* grad, const float* gate, const float* up, int64_t count,
                       float* act, float* dgate, float* dup) {
  for_vectors(0, count, [&](int64_t i, int n) {
    const Gelu gelu = gelu_of(load_part(gate + i, n));
    const Floats u = load_part(up + i, n), d = load_part(grad + i, n);
    if (act != nullptr) store_part(act + i, gelu.value * u, n);
    store_part(dgate + i, d * u * gelu.slope, n);
    store_part(dup + i, d * gelu.value, n);
  });
}

void rms_norm(const float* x, const float* weight, int64_t rows, int64_t size, float eps, float* y,
              float* rstd) {
  for (int64_t t = 0; t < rows; ++t) {
    const float* row = x + t * size;
    float* out = y + t * size;
    const float r = static_cast<float>(1 / std::sqrt(mean_square(row, size, eps)));
    for_vectors(0, size, [&](int64_t i, int count) {
      store_part(out + i, load_part(weight + i, count) * (load_part(row + i, count) * r), count);
    });
    if (rstd != nullptr) rstd[t] = r;
  }
}

// dx = r (w g - x c) with c = r² mean(w g x). In double, because the two terms cancel where one
// feature holds most of the row's square (a token with massive activations).
void rms_norm_backward(const float* grad, const float* x, const float* weight, const float* rstd,
                       int64_t rows, int64_t size, float eps, float* dx) {
  for (int64_t t = 0; t < rows; ++t) {
    const float* row = x + t * size;
    const float* g = grad + t * size;
    const double r = rstd != nullptr ? rstd[t] : 1 / std::sqrt(mean_square(row, size, eps));
    const auto weighted = [&](int64_t i, int n) {
      return widen(load_part(g + i, n)) * widen(load_part(weight + i, n));
    };
    Doubles products{};
    for_vectors(0, size, [&](int64_t i, int n) {
      products += weighted(i, n) * widen(load_part(row + i, n));
    });
    const double c = r * r * sum(products) / static_cast<double>(size);
    for_vectors(0, size, [&](int64_t i, int n) {
      const Doubles difference = weighted(i, n) - widen(load_part(row + i, n)) * c;
      store_part(dx + t * size + i, narrow(difference * r), n);
    });
  }
}

void rope(const float* x, int64_t x_stride, const int32_t* positions, const float* inv_freq,
          int64_t rows, int64_t heads, int64_t head_size, int64_t rotated, float attention_scaling,
          bool inverse, float* table, float* y, int64_t y_stride) {
  const int64_t half = rotated / 2;
  float* cosines = table;
  float* sines = table + half;
  const float sign = inverse ? -attention_scaling : attention_scaling;
  for (int64_t t = 0; t < rows; ++t) {
    const float position = static_cast<float>(positions[t]);
    for_vectors(0, half, [&](int64_t i, int count) {
      const SineCosine turn = sine_cosine(load_part(inv_freq + i, count) * position);
      store_part(cosines + i, turn.cosine * attention_scaling, count);
      store_part(sines + i, turn.sine * sign, count);
    });
    for (int64_t h = 0; h < heads; ++h) {
      const float* in = x + t * x_stride + h * head_size;
      float* out = y + t * y_stride + h * head_size;
      for_vectors(0, half, [&](int64_t i, int count) {
        const Floats c = load_part(cosines + i, count), s = load_part(sines + i, count);
        const Floats low = load_part(in + i, count), high = load_part(in + half + i, count);
        store_part(out + i, low * c - high * s, count);
        store_part(out + half + i, high * c + low * s, count);
      });
      for (int64_t i = rotated; i < head_size; ++i) out[i] = in[i];
    }
  }
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
