// Products with quantized weights for so few rows that reading the weights is most of the work.
#pragma once

#include "kernels/primitives.h"

namespace toolkit {

/// Whether the functions below are for so many rows, in the arithmetic of the kernels.
bool are_few(const Kernels& k, int64_t rows);

/// Kernels::linear without h.
void few_rows_linear(const Kernels& k, const float* x, int64_t rows, const QuantizedMatrix& w,
                     const float* bias, const Adapter& lora, float scaling, float* y);

/// The same of layers that read the same rows, of up to kMostNeighbours.
constexpr int64_t kMostNeighbours = 4;
struct FewRowsLinear {
  QuantizedMatrix w;
  const float* bias = nullptr;
  Adapter lora;
  float scaling = 0;
  float* y = nullptr;
};
void few_rows_linears(const Kernels& k, const float* x, int64_t rows, const FewRowsLinear* linears,
                      int64_t count);

/// Kernels::mlp.
void few_rows_mlp(const Kernels& k, const float* x, int64_t rows, const Mlp& m, float* y);

}  // namespace toolkit
