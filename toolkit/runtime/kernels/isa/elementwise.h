// What row operations of several files share.
#pragma once

#include "kernels/isa/rows.h"

namespace toolkit {
namespace TOOLKIT_ISA {

struct Gelu {
  Floats value, slope;
};

/// gelu by tanh, x s with s = sigmoid(z), z = 2 √(2/π) (x + 0.044715 x³), and its derivative.
Gelu gelu_of(Floats x);

/// mean(x²) + eps.
double mean_square(const float* x, int64_t size, float eps);

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
