// Quantization of rows, the micro-kernels and the loops around them (see fixed16.h).
#if defined(TOOLKIT_DOTPROD)
#include "kernels/isa/fixed16_bytes.h"
#else
#include "kernels/isa/fixed16_pairs.h"
#endif

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

/// What a group is written as.
struct Group {
  alignas(64) int32_t q[kQuantGroup];
  float scale, total;
};

/// scale * x[0, count), zeros beyond.
void quantize(const float* x, int64_t count, float scale, Group* group) {
  constexpr int32_t kInfinity = 0x7f800000;
  // A scale has to have an inverse; what is less is rounded to what floats have below 2^-125.
  constexpr float kLeast = 0x1p-110f;
  alignas(64) float values[kQuantGroup];
  for (int64_t i = 0; i < count; ++i) values[i] = x[i] * scale;
  for (int64_t i = count; i < kQuantGroup; ++i) values[i] = 0;
  int32_t bits = 0;
  for (const float value : values) {
    int32_t magnitude;
    __builtin_memcpy(&magnitude, &value, sizeof(magnitude));
    magnitude &= 0x7fffffff;
    bits = bits > magnitude ? bits : magnitude;
  }
  group->total = 0;
  if (bits >= kInfinity) {
    for (int32_t& q : group->q) q = 0;
    group->scale = __builtin_nanf("");
    return;
  }
  float largest;
  __builtin_memcpy(&largest, &bits, sizeof(largest));
  largest = largest > kLeast ? largest : kLeast;
  const Floats inverse = splat(kLimit / largest);
  for (int64_t i = 0; i < kQuantGroup; i += kLanes) {
    store(group->q + i, nearest(load(values + i) * inverse));
  }
  int32_t total = 0;
  for (const int32_t q : group->q) total += q;
  group->scale = largest / kLimit;
  group->total = static_cast<float>(total);
}

/// A row block of a left operand, from group `group` on.
TOOLKIT_INLINE LeftGroups groups_of(const void* left, int64_t depth, int64_t block, int64_t group) {
  const int64_t groups = divide_up(depth, kQuantGroup);
  const char* base =
      static_cast<const char*>(left) + block * groups * kBlock * fixed16::kGroupBytes;
  const auto* q = reinterpret_cast<const int16_t*>(base);
  const auto* scale = reinterpret_cast<const float*>(q + groups * kBlock * kQuantGroup);
  return {q + group * kBlock * kQuantGroup, scale + group * kBlock,
          scale + (groups + group) * kBlock};
}

void pack_fixed16(const View& view, int64_t rows, int64_t depth, float scale, int64_t first,
                  int64_t last, void* out) {
  const int64_t groups = divide_up(depth, kQuantGroup);
  for (int64_t block = first; block < last; ++block) {
    const int64_t row = block * kBlock, count = min(kBlock, rows - row);
    const LeftGroups to = groups_of(out, depth, block, 0);
    for (int64_t i = 0; i < kBlock; ++i) {
      const float* in = view.data + (row + (i < count ? i : 0)) * view.row_stride;
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t at = g * kQuantGroup;
        Group group;
        quantize(in + at, i < count ? min(kQuantGroup, depth - at) : 0, scale, &group);
        store_row(group.q, static_cast<int>(i),
                  const_cast<int16_t*>(to.q) + g * kBlock * kQuantGroup);
        const_cast<float*>(to.scale)[g * kBlock + i] = group.scale;
        const_cast<float*>(to.total)[g * kBlock + i] = group.total;
      }
    }
  }
}

template <int kRows, int kVectors>
TOOLKIT_INLINE void start(const float* out, int64_t stride, bool accumulate,
                          Floats (&sums)[kRows][kVectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = accumulate ? load(out + r * stride + v * kLanes) : Floats{};
    }
  }
}

template <int kRows, int kVectors>
TOOLKIT_INLINE void finish(const Floats (&sums)[kRows][kVectors], float* out, int64_t stride) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(out + r * stride + v * kLanes, sums[r][v]);
  }
}

/// Rows of y (+)= x Wᵀ.
template <int kRows, int kVectors, bool kOffset>
void forward(const LeftGroups& left, const RightGroups& right, float* out, int64_t stride,
             bool accumulate) {
  constexpr int64_t kWidth = kVectors * kLanes;
  Floats sums[kRows][kVectors];
  start(out, stride, accumulate, sums);
  for (int64_t g = 0; g < right.groups; ++g) {
    Ints products[kRows][kVectors];
    multiply_panel(left.q + g * kBlock * kQuantGroup, right.codes + g * panel_bytes(kWidth),
                   products);
    const float *scale = right.scale + g * kWidth, *shift = right.shift + g * kWidth;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats factor = splat(left.scale[g * kBlock + r]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const Floats product = __builtin_convertvector(products[r][v], Floats);
        Floats part;
        if constexpr (kOffset) {
          const Floats shifted = splat(left.total[g * kBlock + r]) * load(shift + v * kLanes);
          part = fused(product, load(scale + v * kLanes), shifted);
        } else {
          part = product * load(scale + v * kLanes);
        }
        sums[r][v] = fused(factor, part, sums[r][v]);
      }
    }
  }
  finish(sums, out, stride);
}

/// Σ of 16, by halves.
TOOLKIT_INLINE float folded(float* partial) {
#pragma GCC unroll 4
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) partial[i] += partial[i + half];
  }
  return partial[0];
}

/// Rows of dx (+)= dy W.
template <int kRows, int kVectors, bool kOffset>
void backward(const LeftGroups& left, const RightGroups& right, float* out, int64_t stride,
              bool accumulate) {
  constexpr int64_t kWidth = kVectors * kLanes;
  Floats sums[kRows][kVectors];
  start(out, stride, accumulate, sums);
  alignas(64) int16_t scaled_rows[2][kStep * kQuantGroup];
  alignas(64) float partial[kRows][16] = {};
  // One group ahead, so that nothing waits for what was just stored.
  scale_rows<kRows>(left.q, right.ratio, scaled_rows[0]);
  for (int64_t g = 0; g < right.groups; ++g) {
    const int16_t* q = left.q + g * kBlock * kQuantGroup;
    if (g + 1 < right.groups) {
      scale_rows<kRows>(q + kBlock * kQuantGroup, right.ratio + (g + 1) * kQuantGroup,
                        scaled_rows[(g + 1) % 2]);
    }
    Ints products[kRows][kVectors];
    multiply_panel(scaled_rows[g % 2], right.codes + g * panel_bytes(kWidth), products);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const float scale = left.scale[g * kBlock + r];
      const Floats factor = splat(scale * right.largest[g]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = fused(factor, __builtin_convertvector(products[r][v], Floats), sums[r][v]);
      }
      if constexpr (kOffset) {
        add_row(q, r, right.shift_ratio + g * kQuantGroup, scale * right.shift_largest[g],
                partial[r]);
      }
    }
  }
  if constexpr (kOffset) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats shift = splat(folded(partial[r]));
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[r][v] = sums[r][v] + shift;
    }
  }
  finish(sums, out, stride);
}

using MicroKernel = void (*)(const LeftGroups&, const RightGroups&, float*, int64_t, bool);

template <int kVectors, bool kOffset>
MicroKernel kernel_for_rows(int64_t rows, bool transposed) {
#define TOOLKIT_KERNEL(rows)                                            \
  {                                                                     \
    forward<rows, kVectors, kOffset>, backward<rows, kVectors, kOffset> \
  }
  static constexpr MicroKernel kTable[][2] = {
      TOOLKIT_KERNEL(1), TOOLKIT_KERNEL(2),
#if TOOLKIT_LANES >= 8 || defined(TOOLKIT_ISA_IS_NEON)
      TOOLKIT_KERNEL(3),
#endif
#if TOOLKIT_LANES == 16 || defined(TOOLKIT_I8MM)
      TOOLKIT_KERNEL(4), TOOLKIT_KERNEL(5), TOOLKIT_KERNEL(6),
#endif
  };
#undef TOOLKIT_KERNEL
  static_assert(sizeof(kTable) / sizeof(kTable[0]) == kStep);
  return kTable[rows - 1][transposed];
}

template <int kVectors>
MicroKernel kernel_for(int64_t rows, bool transposed, bool offset) {
  return offset ? kernel_for_rows<kVectors, true>(rows, transposed)
                : kernel_for_rows<kVectors, false>(rows, transposed);
}

MicroKernel choose_kernel(int64_t rows, int64_t width, bool transposed, bool offset) {
  if constexpr (kGroup > kPanel) {
    if (width == kPanel) return kernel_for<kParts>(rows, transposed, offset);
  }
  return kernel_for<kGroup / kLanes>(rows, transposed, offset);
}

/// Room for a stretch in a thread's buffer.
RightGroups right_groups(void* buffer, int64_t width, int64_t depth, bool offset) {
  RightGroups right{};
  right.codes = static_cast<char*>(buffer);
  right.width = width;
  right.offset = offset;
  right.groups = divide_up(depth, kQuantGroup);
  char* at = right.codes + kStretch * panel_bytes(kGroup);
  right.scale = reinterpret_cast<float*>(at);
  right.shift = right.scale + kStretch * width;
  right.ratio = reinterpret_cast<int16_t*>(at);
  right.shift_ratio = right.ratio + kStretch * kQuantGroup;
  right.largest = reinterpret_cast<float*>(right.shift_ratio + kStretch * kQuantGroup);
  right.shift_largest = right.largest + kStretch;
  return right;
}

/// Every row of the blocks for one packed stretch.
void run_blocks(const Product& product, const Left& left, const RightGroups& right, int64_t column,
                int64_t group, bool transposed, bool accumulate, int64_t block0, int64_t block1) {
  for (int64_t block = block0; block < block1; ++block) {
    const int64_t row0 = block * kBlock, rows = min(kBlock, product.rows - row0);
    const LeftGroups groups = groups_of(left.data, left.depth, block, group);
    for (int64_t row = 0; row < rows; row += kStep) {
      const int64_t count = min(kStep, rows - row);
      const LeftGroups from{groups.q + row * kQuantGroup, groups.scale + row, groups.total + row};
      float* out = product.out + (row0 + row) * product.stride + column;
      choose_kernel(count, right.width, transposed, right.offset)(from, right, out, product.stride,
                                                                  accumulate);
    }
  }
}

void multiply_fixed16(const Product& product, int64_t group, int64_t block0, int64_t block1,
                      void* buffer) {
  const int64_t column = group * kGroup, width = min(kGroup, product.columns - column);
  constexpr int64_t kDepth = kStretch * kQuantGroup;
  bool accumulate = product.accumulate;
  for (int t = 0; t < product.count; ++t) {
    const Left& left = product.terms[t].left;
    const Right& source = product.terms[t].right;
    const QuantizedMatrix& w = *source.weight;
    const bool transposed = source.kind == Right::kWeightColumns;
    for (int64_t k = 0; k < left.depth; k += kDepth) {
      const int64_t depth = min(kDepth, left.depth - k), place = source.column0 + column;
      RightGroups right = right_groups(buffer, width, depth, w.offset != nullptr);
      if (transposed) {
        pack_weight_columns(w, place, source.depth0 + k, depth, &right);
      } else {
        pack_weight_rows(w, place, source.depth0 + k, &right);
      }
      run_blocks(product, left, right, column, k / kQuantGroup, transposed, accumulate, block0,
                 block1);
      accumulate = true;
    }
  }
}

}  // namespace

extern const Arithmetic fixed16_of;
const Arithmetic fixed16_of = {"fixed16",
                               kStretch * kQuantGroup,
                               fixed16::left_bytes,
                               fixed16::right_bytes,
                               fixed16::buffer_bytes,
                               pack_fixed16,
                               nullptr,
                               nullptr,
                               multiply_fixed16};

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
