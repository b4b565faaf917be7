// Quantized weights to floats, for the packing of right operands and for single rows.
#pragma once

#include "kernels/isa/simd.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// Panel `panel` of W, features [depth0, depth0 + depth), to out[k * width + row of the panel].
/// depth0 and depth are multiples of 2; a group of 32 may be entered and left anywhere at an even
/// feature.
void dequantize_rows(const QuantizedMatrix& w, int64_t panel, int64_t depth0, int64_t depth,
                     float* out, int64_t width);

/// Rows [row0, row0 + rows) of W (multiples of 16), features [feature, feature + features), to
/// out[row * width + feature]: 16 x 16 tiles of codes are transposed in registers. features is 16;
/// or 32, from a multiple of 32 on and `width` then.
void dequantize_columns(const QuantizedMatrix& w, int64_t row0, int64_t rows, int64_t feature,
                        int64_t features, float* out, int64_t width);

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
