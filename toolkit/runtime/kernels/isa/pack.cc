// Packing of operands (see gemm.h for the layouts).
#include "kernels/isa/dequantize.h"
#include "kernels/isa/gemm.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

/// Four rows of four floats, transposed in registers.
TOOLKIT_INLINE void transpose4(const float* in, int64_t in_stride, float scale, float* out,
                               int64_t out_stride) {
  const Floats4 r0 = load<Floats4>(in), r1 = load<Floats4>(in + in_stride);
  const Floats4 r2 = load<Floats4>(in + 2 * in_stride), r3 = load<Floats4>(in + 3 * in_stride);
  const Floats4 a = __builtin_shufflevector(r0, r1, 0, 4, 1, 5);
  const Floats4 b = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
  const Floats4 c = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
  const Floats4 d = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
  store(out, __builtin_shufflevector(a, c, 0, 1, 4, 5) * scale);
  store(out + out_stride, __builtin_shufflevector(a, c, 2, 3, 6, 7) * scale);
  store(out + 2 * out_stride, __builtin_shufflevector(b, d, 0, 1, 4, 5) * scale);
  store(out + 3 * out_stride, __builtin_shufflevector(b, d, 2, 3, 6, 7) * scale);
}

/// out[k * width + i] = scale * in[i * stride + k] for i < rows (0 up to width), k < depth.
void pack_rows(const float* in, int64_t stride, int64_t rows, int64_t depth, float scale,
               int64_t width, float* out) {
  if (rows < width) {
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t i = rows; i < width; ++i) out[k * width + i] = 0;
    }
  }
  if (rows < 4) {
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t i = 0; i < rows; ++i) out[k * width + i] = scale * in[i * stride + k];
    }
    return;
  }
  for (int64_t i = 0; i < rows; i += 4) {
    // The last four rows overlap the ones before when their number is no multiple of 4.
    const int64_t first = min(i, rows - 4);
    int64_t k = 0;
    for (; k + 4 <= depth; k += 4) {
      if (k % 16 == 0) {  // the next four rows, line by line
        for (int64_t j = 4; j < 8; ++j) __builtin_prefetch(in + (first + j) * stride + k);
      }
      transpose4(in + first * stride + k, stride, scale, out + k * width + first, width);
    }
    for (; k < depth; ++k) {
      for (int64_t j = first; j < first + 4; ++j) out[k * width + j] = scale * in[j * stride + k];
    }
  }
}

/// out[k * width + j] = scale * in[k * stride + j] for j < columns (0 up to width), k < depth.
void pack_columns(const float* in, int64_t stride, int64_t columns, int64_t depth, float scale,
                  int64_t width, float* out) {
  constexpr int64_t kAhead = 8;
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t j = 0; j < columns; j += 16) __builtin_prefetch(in + (k + kAhead) * stride + j);
    for (int64_t j = 0; j < columns; ++j) out[k * width + j] = scale * in[k * stride + j];
    for (int64_t j = columns; j < width; ++j) out[k * width + j] = 0;
  }
}

}  // namespace

void pack_left(const View& view, int64_t rows, int64_t depth, float scale, int64_t first,
               int64_t last, void* out) {
  for (int64_t block = first; block < last; ++block) {
    const int64_t row = block * kBlock;
    const float* in = view.data + row * view.row_stride;
    float* to = static_cast<float*>(out) + row * depth;
    const int64_t count = min(kBlock, rows - row);
    if (view.column_stride == 1) {
      pack_rows(in, view.row_stride, count, depth, scale, kBlock, to);
    } else {
      pack_columns(in, view.column_stride, count, depth, scale, kBlock, to);
    }
  }
}

void pack_ones(int64_t rows, void* out) {
  float* to = static_cast<float*>(out);
  for (int64_t i = 0; i < round_up(rows, kBlock); ++i) to[i] = 1.0f;
}

void pack_group(const Right& right, int64_t column, int64_t columns, int64_t depth0, int64_t depth,
                int64_t width, float scale, float* out) {
  const int64_t k0 = right.depth0 + depth0, c0 = right.column0 + column;
  switch (right.kind) {
    case Right::kWeightRows:
      for (int64_t j = 0; j < width; j += kPanel) {
        dequantize_rows(*right.weight, (c0 + j) / kPanel, k0, depth, out + j, width);
      }
      break;
    case Right::kWeightColumns:
      for (int64_t j = 0, count; j < width; j += count) {
        // Together where they share their quantization groups.
        count = min(width - j, (c0 + j) % kGroup == 0 ? kGroup : kPanel);
        dequantize_columns(*right.weight, k0, depth, c0 + j, count, out + j, width);
      }
      break;
    case Right::kTransposed:
      pack_rows(right.data + c0 * right.stride + k0, right.stride, columns, depth, scale, width,
                out);
      break;
    case Right::kPlain:
      pack_columns(right.data + k0 * right.stride + c0, right.stride, columns, depth, scale, width,
                   out);
      break;
    case Right::kPacked:
      break;
  }
}

void pack_right(const Right& right, const RightPart& part, float scale, void* out) {
  for (int64_t j = 0; j < part.column_count; j += kGroup) {
    const int64_t columns = min(kGroup, part.column_count - j), width = round_up(columns, kPanel);
    float* to = static_cast<float*>(out) + (part.column0 + j) * part.depth + part.depth0 * width;
    pack_group(right, j, columns, 0, part.depth_count, width, scale, to);
  }
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
