// What is compiled once per instruction set, behind two tables: products in one arithmetic, and
// operations on rows of floats. Everything else (tiles, threads, scratch, release of pages) is
// decided by the operators, which do integer arithmetic only and call these.
//
// A call does a whole packing, a sweep of the micro-kernel or a row, never less.
#pragma once

#include "kernels/product.h"

namespace toolkit {

/// Products in one arithmetic. Blocks of rows are those of the tiles for every arithmetic of an
/// instruction set, so that operands of several can be packed by the same pass over rows.
struct Arithmetic {
  const char* name;
  /// Stretches of the depth that are packed one after the other begin at multiples of it.
  int64_t step;

  /// Bytes of a packed left operand [rows, depth].
  int64_t (*left_bytes)(const Tiles& tiles, int64_t rows, int64_t depth);
  /// Bytes of a right operand [depth, columns] packed ahead of its use.
  int64_t (*right_bytes)(const Tiles& tiles, int64_t depth, int64_t columns);
  /// Bytes of a thread's buffer for right operands that are packed as they are needed.
  int64_t (*buffer_bytes)(const Tiles& tiles);

  /// Packs row blocks [first, last) of scale * view [rows, depth] into out, which holds the whole
  /// matrix.
  void (*pack_left)(const View& view, int64_t rows, int64_t depth, float scale, int64_t first,
                    int64_t last, void* out);
  /// Packs a column of ones. Null, like pack_right, where right operands are weights only.
  void (*pack_ones)(int64_t rows, void* out);
  /// Packs a part of scale * right into out, which holds the whole operand; `right` begins at the
  /// part.
  void (*pack_right)(const Right& right, const RightPart& part, float scale, void* out);
  /// Row blocks [block0, block1) of column groups from `group` on, one or `groups_together` of
  /// them, on the calling thread. The buffer may be null where all right operands are packed.
  void (*multiply_groups)(const Product& product, int64_t group, int64_t groups, int64_t block0,
                          int64_t block1, void* buffer);
};

/// Products of single rows with panels of 16 rows of W, which are read where they lie.
struct RowProducts {
  int64_t most;  // rows: more are faster packed
  /// x as multiply_panel reads it, to out [depth / 32 * few_rows::kGroupBytes].
  void (*pack_row)(const float* x, int64_t depth, void* out);
  /// y [count, 16], rows `stride` apart, = packed rows times a panel of W.
  void (*multiply_panel)(const QuantizedMatrix& w, int64_t panel, const void* rows, int64_t count,
                         float* y, int64_t stride);
};

namespace few_rows {
/// What 32 elements of a packed row take at most: each twice, and two floats.
constexpr int64_t kGroupBytes = (2 * kQuantGroup + 2) * sizeof(float);
constexpr int64_t kMostFloat32 = 4;
}  // namespace few_rows

/// Stands for minus infinity as a running maximum: finite, so that differences are.
constexpr float kNegative = -3.0e38f;

/// An online softmax: of the row up to here, the maximum m and Σ exp(x - m).
struct RunningSoftmax {
  float maximum = kNegative;
  float total = 0;
};

/// A row of the loss head that counts, and the label's logit.
struct HeadRow {
  int64_t token = 0;
  int64_t label = 0;
  RunningSoftmax softmax;
  float label_logit = 0;
};

/// What stands for an activation's derivative: 0 up to the first threshold, then slopes.
struct ActivationSteps {
  float thresholds[3];
  float slopes[3];
};

// clang-format off
/// X(name, parameters): operations on floats, on the calling thread.
#define TOOLKIT_ROW_PRIMITIVES(X)                                                                  \
  X(copy, (const float* x, int64_t count, float* out))                                             \
  X(zero, (float* out, int64_t count))                                                             \
  X(add, (const float* a, const float* b, int64_t count, float* out))                              \
  X(scale, (const float* x, float factor, int64_t count, float* out))                              \
  /* out = silu(gate) * up. */                                                                     \
  X(silu_mul, (const float* gate, const float* up, int64_t count, float* out))                     \
  /* dgate = grad * up * silu'(gate), dup = grad * silu(gate), and act = silu(gate) * up unless it \
     is null. Outputs may be the inputs. */                                                        \
  X(silu_mul_backward, (const float* grad, const float* gate, const float* up, int64_t count,      \
                        float* act, float* dgate, float* dup))                                     \
  /* The same with gelu by tanh in the place of silu. */                                           \
  X(gelu_mul, (const float* gate, const float* up, int64_t count, float* out))                     \
  X(gelu_mul_backward, (const float* grad, const float* gate, const float* up, int64_t count,      \
                        float* act, float* dgate, float* dup))                                     \
  /* y = silu(x) or gelu(x), and four codes a byte of the operator of that name. */                \
  X(silu_codes, (const float* x, int64_t count, const ActivationSteps& steps, float* y,            \
                 uint8_t* codes))                                                                  \
  X(gelu_codes, (const float* x, int64_t count, const ActivationSteps& steps, float* y,            \
                 uint8_t* codes))                                                                  \
  /* out = grad * the slope of every code. */                                                      \
  X(code_slopes, (const float* grad, const uint8_t* codes, int64_t count,                          \
                  const ActivationSteps& steps, float* out))                                       \
  /* out = a * b. */                                                                               \
  X(multiply_rows, (const float* a, const float* b, int64_t count, float* out))                    \
  /* Rows of the operators of these names in kernels.h. */                                         \
  X(normalize, (const float* x, int64_t rows, int64_t size, float eps, float* y, float* rstd))     \
  X(normalize_backward, (const float* grad, const float* y, const float* rstd, int64_t rows,       \
                         int64_t size, float* dx))                                                 \
  X(rms_norm, (const float* x, const float* weight, int64_t rows, int64_t size, float eps,         \
               float* y, float* rstd))                                                             \
  X(rms_norm_backward, (const float* grad, const float* x, const float* weight, const float* rstd, \
                        int64_t rows, int64_t size, float eps, float* dx))                         \
  /* Rows of x and y lie x_stride and y_stride apart. Of every head the first `rotated` features   \
     turn, the others stay. table: `rotated` floats. */                                            \
  X(rope, (const float* x, int64_t x_stride, const int32_t* positions, const float* inv_freq,      \
           int64_t rows, int64_t heads, int64_t head_size, int64_t rotated,                        \
           float attention_scaling, bool inverse, float* table, float* y, int64_t y_stride))       \
  /* out[k] = W[row, k] for all features. */                                                       \
  X(dequantize_row, (const QuantizedMatrix& w, int64_t row, float* out))                           \
  /* out[i] (+)= scale Σ x[k] rows[i, k] for i < count. */                                         \
  X(dot_rows, (const float* x, const float* rows, int64_t depth, int64_t count, float scale,       \
               bool accumulate, float* out))                                                       \
  /* row[lo, hi) of [0, count) becomes exp(row - maximum), zero elsewhere; out [size], what was    \
     summed with the maximum before, is rescaled unless it is null. */                             \
  X(attention_strip, (float* row, int64_t lo, int64_t hi, int64_t count, RunningSoftmax* running,  \
                      float* out, int64_t size))                                                   \
  /* out /= the sum. */                                                                            \
  X(attention_finish, (const RunningSoftmax& running, float* out, int64_t size))                   \
  /* A query [size] over `count` rows of keys and values, `stride` apart: the softmax up to here,   \
     and out [size] = Σ exp(score - maximum) v. scores: `count` floats. */                         \
  X(attention_keys, (const float* q, int64_t size, float scale, const float* keys,                 \
                     const float* values, int64_t stride, int64_t count, float* scores,            \
                     RunningSoftmax* running, float* out))                                         \
  /* out [size] of the results of `parts` runs of keys, `step` states and `step` times size floats \
     apart. */                                                                                     \
  X(attention_merge, (const RunningSoftmax* running, const float* sums, int64_t parts,             \
                      int64_t step, int64_t size, float* out))                                     \
  /* row[lo, hi) becomes its softmax, the rest of row[0, count) zero. */                           \
  X(masked_softmax, (float* row, int64_t lo, int64_t hi, int64_t count))                           \
  /* For one query over its keys [lo, hi): products, dP, become dS as attention_backward.cc has it, \
     zero elsewhere in [0, count). */                                                              \
  X(query_gradient, (const float* probs, int64_t lo, int64_t hi, int64_t count, float* products))  \
  /* Goes on with a row's softmax: `count` logits of classes from `first` on become exp(l - m),    \
     the rest of `padded` zero; sums [size] are rescaled unless they are null. */                  \
  X(head_strip, (HeadRow* row, int64_t first, int64_t count, int64_t padded, float* logits,        \
                 float* sums, int64_t size))                                                       \
  /* out, the label's weights, becomes sums / the softmax's sum - out. */                          \
  X(head_gradient, (const HeadRow& row, const float* sums, int64_t size, float* out))              \
  /* Adds the rows' losses to the total, and rounds that to *loss. */                              \
  X(head_loss, (const HeadRow* rows, int64_t count, double* total, float* loss))                   \
  /* A part of the operators of these names from element `first`, a multiple of 4, on. */          \
  X(perturb, (const float* values, const NormalStream& stream, int64_t first, int64_t count,       \
              float scale, float most, float* plus, float* minus))                                 \
  X(add_normals, (float* values, const NormalStream& stream, int64_t first, int64_t count,         \
                  float keep, float factor, float most))
// clang-format on

struct Primitives {
  Tiles tiles;
  Arithmetic float32;
  RowProducts few_rows;  // in float32
#define TOOLKIT_POINTER(name, parameters) void(*name) parameters;
  TOOLKIT_ROW_PRIMITIVES(TOOLKIT_POINTER)
#undef TOOLKIT_POINTER
};

/// Column groups that share the scales of weights that are read by columns.
constexpr int64_t groups_together(const Tiles& tiles) { return max(1, kQuantGroup / tiles.group); }

/// The sizes of float32's packed operands.
namespace float32 {
int64_t left_bytes(const Tiles& tiles, int64_t rows, int64_t depth);
int64_t right_bytes(const Tiles& tiles, int64_t depth, int64_t columns);
int64_t buffer_bytes(const Tiles& tiles);

/// What a thread's buffer holds: a group of columns of a stretch of the depth, which a group of a
/// weight's parameters may reach over.
constexpr int64_t buffer_floats(const Tiles& tiles) {
  return (tiles.depth + kQuantGroup) * tiles.group;
}
}  // namespace float32

/// Those of fixed16's, see isa/fixed16.h.
namespace fixed16 {
int64_t left_bytes(const Tiles& tiles, int64_t rows, int64_t depth);
int64_t right_bytes(const Tiles& tiles, int64_t depth, int64_t columns);
int64_t buffer_bytes(const Tiles& tiles);

/// What a quantized row takes for 32 of its elements: 16 bits each, their scale, and scale
/// times sum.
constexpr int64_t kGroupBytes = kQuantGroup * 2 + 2 * sizeof(float);
/// Quantization groups of a stretch of the depth for which a right operand is packed at a time, so
/// that it stays in the L1 cache. The same on all instruction sets: it decides where the offsets'
/// part of a product is rounded.
constexpr int64_t kStretch = 8;
/// Bytes of a packed right operand for one of them: 16 bits a code, and what a group's codes are
/// multiplied with.
constexpr int64_t panel_bytes(const Tiles& tiles) { return kQuantGroup * 2 * tiles.group; }
constexpr int64_t factor_bytes(const Tiles& tiles) {
  return 2 * sizeof(float) * max(tiles.group, kQuantGroup);
}
constexpr int64_t buffer_bytes_of_group(const Tiles& tiles) {
  return kStretch * (panel_bytes(tiles) + factor_bytes(tiles));
}
}  // namespace fixed16

}  // namespace toolkit
