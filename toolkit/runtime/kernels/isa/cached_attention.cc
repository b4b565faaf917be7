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

void attention_keys(const float* q, int64_t heads, int64_t size, float scale, const float* keys,
                    const float* values, int64_t stride, int64_t count, float* scores,
                    RunningSoftmax* running, float* out) {
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t j = 0; j < count; ++j) {
      scores[j] = scale * dot(q + head * size, keys + j * stride, size);
    }
    running[head].maximum = row_maximum(scores, count, kNegative);
    running[head].total = exponentials(scores, count, running[head].maximum);
    weighted_sum(scores, values, stride, count, size, out + head * size);
  }
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
