// A few queries over keys and values where they lie, and the merging of what was found.
#include <cmath>

#include "kernels/isa/rows.h"
#include "kernels/isa/softmax.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

TOOLKIT_INLINE float dot(const float* a, const float* b, int64_t count) {
  Floats total{};
  for_vectors(0, count,
              [&](int64_t i, int n) { total += load_part(a + i, n) * load_part(b + i, n); });
  return tree_sum(total);
}

/// The sums of four vectors.
TOOLKIT_INLINE Floats4 sums_of(Floats a, Floats b, Floats c, Floats d) {
#if TOOLKIT_LANES == 16
  const Floats ab =
      __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
      __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const Floats cd =
      __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
      __builtin_shufflevector(c, d, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  Floats v =
      __builtin_shufflevector(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
      __builtin_shufflevector(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  return __builtin_shufflevector(v, v, 0, 4, 8, 12);
#else
  return Floats4{tree_sum(a), tree_sum(b), tree_sum(c), tree_sum(d)};
#endif
}

/// Four keys, in whole vectors: what they share is loaded once, and added up at once.
TOOLKIT_INLINE void dot4(const float* q, const float* keys, int64_t stride, int64_t size,
                         float scale, float* out) {
  Floats total[4] = {};
  for (int64_t i = 0; i < size; i += kLanes) {
    const Floats x = load(q + i);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) total[j] += x * load(keys + j * stride + i);
  }
  store(out, sums_of(total[0], total[1], total[2], total[3]) * scale);
}

/// out[0, kVectors * lanes) = Σ weights[j] rows[j].
template <int kVectors>
TOOLKIT_INLINE void weighted_rows(const float* weights, const float* rows, int64_t stride,
                                  int64_t count, float* out) {
  Floats total[kVectors] = {};
  for (int64_t j = 0; j < count; ++j) {
    const Floats weight = splat(weights[j]);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) total[i] += weight * load(rows + j * stride + i * kLanes);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) store(out + i * kLanes, total[i]);
}

void weighted_sum(const float* weights, const float* rows, int64_t stride, int64_t count,
                  int64_t size, float* out) {
  int64_t at = 0;
  for (; at + 4 * kLanes <= size; at += 4 * kLanes) {
    weighted_rows<4>(weights, rows + at, stride, count, out + at);
  }
  for (; at + kLanes <= size; at += kLanes) {
    weighted_rows<1>(weights, rows + at, stride, count, out + at);
  }
  for (; at < size; ++at) {
    float total = 0;
    for (int64_t j = 0; j < count; ++j) total += weights[j] * rows[j * stride + at];
    out[at] = total;
  }
}

}  // namespace

void attention_keys(const float* q, int64_t size, float scale, const float* keys,
                    const float* values, int64_t stride, int64_t count, float* scores,
                    RunningSoftmax* running, float* out) {
  int64_t j = 0;
  if (size % kLanes == 0) {
    for (; j + 4 <= count; j += 4) dot4(q, keys + j * stride, stride, size, scale, scores + j);
  }
  for (; j < count; ++j) scores[j] = scale * dot(q, keys + j * stride, size);
  running->maximum = row_maximum(scores, count, kNegative);
  running->total = exponentials(scores, count, running->maximum);
  weighted_sum(scores, values, stride, count, size, out);
}

void attention_merge(const RunningSoftmax* running, const float* sums, int64_t parts, int64_t step,
                     int64_t size, float* out) {
  float best = kNegative, total = 0;
  for (int64_t part = 0; part < parts; ++part) {
    const float maximum = running[part * step].maximum;
    best = maximum > best ? maximum : best;
  }
  clear_row(out, size);
  for (int64_t part = 0; part < parts; ++part) {
    const float factor = std::exp(running[part * step].maximum - best);
    total += running[part * step].total * factor;
    const float* from = sums + part * step * size;
    for_vectors(0, size, [&](int64_t i, int n) {
      store_part(out + i, load_part(out + i, n) + load_part(from + i, n) * factor, n);
    });
  }
  scale_row(out, size, 1.0f / total);
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
