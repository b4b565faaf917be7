// Norm, rotary embedding and the element-wise operators, split by rows.
#include "kernels/elementwise.h"

#include "kernels/parallel.h"
#include "kernels/primitives.h"
#include "kernels/workspace.h"

namespace toolkit {
namespace {

/// Calls body(first, count) for parts of a stream's elements that are whole groups of those a
/// primitive makes together.
template <typename Body>
void each_normals(int64_t count, Body body) {
  constexpr int64_t kGroup = 64;
  parallel_short(divide_up(count, kGroup), kLeastFloats / kGroup,
                 [&](int64_t begin, int64_t end, int) {
                   const int64_t first = begin * kGroup;
                   body(first, min(count, end * kGroup) - first);
                 });
}

}  // namespace

void Kernels::rms_norm(const float* x, const float* weight, int64_t tokens, int64_t size, float eps,
                       float* y, float* rstd) const {
  parallel_short(tokens, 1, [&](int64_t begin, int64_t end, int) {
    const int64_t at = begin * size;
    rows.rms_norm(x + at, weight, end - begin, size, eps, y + at,
                  rstd != nullptr ? rstd + begin : nullptr);
  });
}

void Kernels::rms_norm_backward(const float* grad, const float* x, const float* weight,
                                const float* rstd, int64_t tokens, int64_t size, float eps,
                                float* dx) const {
  parallel_short(tokens, 1, [&](int64_t begin, int64_t end, int) {
    const int64_t at = begin * size;
    rows.rms_norm_backward(grad + at, x + at, weight, rstd != nullptr ? rstd + begin : nullptr,
                           end - begin, size, eps, dx + at);
  });
}

void Kernels::rope(const float* x, const int32_t* positions, const float* inv_freq, int64_t tokens,
                   int64_t heads, int64_t head_size, float attention_scaling, bool inverse,
                   float* y) const {
  Scratch scratch;
  float* tables = scratch.floats(threads() * head_size);
  parallel_short(tokens, 1, [&](int64_t begin, int64_t end, int thread) {
    const int64_t stride = heads * head_size, at = begin * stride;
    rows.rope(x + at, stride, positions + begin, inv_freq, end - begin, heads, head_size, head_size,
              attention_scaling, inverse, tables + thread * head_size, y + at, stride);
  });
}

void Kernels::window_start(const int32_t* start, int64_t tokens, int64_t window,
                           int32_t* out) const {
  parallel_short(tokens, kLeastFloats, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      out[t] = static_cast<int32_t>(max(start[t], t - window + 1));
    }
  });
}

void Kernels::perturb(const float* values, const NormalStream& stream, int64_t count, float scale,
                      float most, float* plus, float* minus) const {
  each_normals(count, [&](int64_t first, int64_t size) {
    rows.perturb(values + first, stream, first, size, scale, most, plus + first, minus + first);
  });
}

void Kernels::add_normals(float* values, const NormalStream& stream, int64_t count, float keep,
                          float factor, float most) const {
  each_normals(count, [&](int64_t first, int64_t size) {
    rows.add_normals(values + first, stream, first, size, keep, factor, most);
  });
}

void Kernels::add(const float* a, const float* b, int64_t count, float* out) const {
  parallel_short(count, kLeastFloats, [&](int64_t begin, int64_t end, int) {
    rows.add(a + begin, b + begin, end - begin, out + begin);
  });
}

void Kernels::scale(const float* x, float factor, int64_t count, float* out) const {
  parallel_short(count, kLeastFloats, [&](int64_t begin, int64_t end, int) {
    rows.scale(x + begin, factor, end - begin, out + begin);
  });
}

}  // namespace toolkit
