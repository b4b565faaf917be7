// Activations whose backward reads two bits an element (Approx-BP, arXiv 2406.16282), the norm
// whose backward reads what it returned (MS-RMSNorm, same paper), and what is between them in an
// MLP.
#include "kernels/elementwise.h"
#include "kernels/parallel.h"
#include "kernels/primitives.h"

namespace toolkit {
namespace {

// a and c of the paper; slopes are sums of a. See toolkit/ops/approximate.py.
constexpr double kSilu[] = {-0.04060357190528599, 1.080925428529668, -0.040321856624382146};
constexpr double kGelu[] = {-0.04922261145617846, 1.0979632065417297, -0.048740595085551286};
constexpr ActivationSteps kResilu2 = {
    {-6.3050461001646445f, -0.0008684942046214787f, 6.325815242089708f},
    {float(kSilu[0]), float(kSilu[0] + kSilu[1]), float(kSilu[0] + kSilu[1] + kSilu[2])}};
constexpr ActivationSteps kRegelu2 = {
    {-3.1858810036855245f, -0.001178821281161997f, 3.190832613414926f},
    {float(kGelu[0]), float(kGelu[0] + kGelu[1]), float(kGelu[0] + kGelu[1] + kGelu[2])}};

const ActivationSteps& steps_of(Activation activation) {
  return activation == Activation::gelu ? kRegelu2 : kResilu2;
}

/// Calls body(row) for all rows, several at a time on a thread where they are short.
template <typename Body>
void each_row(int64_t tokens, int64_t size, Body body) {
  const int64_t least = size < kLeastFloats ? kLeastFloats / size : 1;
  parallel_short(tokens, least, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) body(t);
  });
}

}  // namespace

void Kernels::normalize(const float* x, int64_t tokens, int64_t size, float eps, float* y,
                        float* rstd) const {
  each_row(tokens, size,
           [&](int64_t t) { rows.normalize(x + t * size, 1, size, eps, y + t * size, rstd + t); });
}

void Kernels::normalize_backward(const float* grad, const float* y, const float* rstd,
                                 int64_t tokens, int64_t size, float* dx) const {
  each_row(tokens, size, [&](int64_t t) {
    rows.normalize_backward(grad + t * size, y + t * size, rstd + t, 1, size, dx + t * size);
  });
}

void Kernels::coded_activation(Activation activation, const float* x, int64_t tokens, int64_t size,
                               float* y, uint8_t* codes) const {
  const ActivationSteps& steps = steps_of(activation);
  const int64_t bytes = divide_up(size, kCodesPerByte);
  each_row(tokens, size, [&](int64_t t) {
    const auto row = activation == Activation::gelu ? rows.gelu_codes : rows.silu_codes;
    row(x + t * size, size, steps, y + t * size, codes + t * bytes);
  });
}

void Kernels::coded_activation_backward(Activation activation, const float* grad,
                                        const uint8_t* codes, int64_t tokens, int64_t size,
                                        float* out) const {
  const ActivationSteps& steps = steps_of(activation);
  const int64_t bytes = divide_up(size, kCodesPerByte);
  each_row(tokens, size, [&](int64_t t) {
    rows.code_slopes(grad + t * size, codes + t * bytes, size, steps, out + t * size);
  });
}

void Kernels::multiply_elements(const float* a, const float* b, int64_t count, float* out) const {
  parallel_short(count, kLeastFloats, [&](int64_t begin, int64_t end, int) {
    rows.multiply_rows(a + begin, b + begin, end - begin, out + begin);
  });
}

void Kernels::scale_features(const float* x, const float* weight, int64_t tokens, int64_t size,
                             float* out) const {
  each_row(tokens, size,
           [&](int64_t t) { rows.multiply_rows(weight, x + t * size, size, out + t * size); });
}

void Kernels::halves(const float* x, int64_t tokens, int64_t size, float* first,
                     float* second) const {
  each_row(tokens, size, [&](int64_t t) {
    rows.copy(x + 2 * t * size, size, first + t * size);
    rows.copy(x + (2 * t + 1) * size, size, second + t * size);
  });
}

void Kernels::joined(const float* first, const float* second, int64_t tokens, int64_t size,
                     float* out) const {
  each_row(tokens, size, [&](int64_t t) {
    rows.copy(first + t * size, size, out + 2 * t * size);
    rows.copy(second + t * size, size, out + (2 * t + 1) * size);
  });
}

}  // namespace toolkit
