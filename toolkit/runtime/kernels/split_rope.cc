// Rotary embedding and the split of a fused projection [T, (H + 2 K) d] into q, k and v in one
// pass, and back again: q and k turn, v is copied.
#include "kernels/parallel.h"
#include "kernels/primitives.h"
#include "kernels/workspace.h"

namespace toolkit {
namespace {

int64_t fused_width(const RopeShape& s) { return (s.heads + 2 * s.kv_heads) * s.head_size; }

/// Calls run(first row, end, table of the thread) for all rows in parallel.
template <typename Run>
void for_rows(const RopeShape& s, Run run) {
  Scratch scratch;
  float* tables = scratch.floats(threads() * s.rotated);
  parallel_short(s.tokens, 1, [&](int64_t begin, int64_t end, int thread) {
    run(begin, end, tables + thread * s.rotated);
  });
}

}  // namespace

void Kernels::split_rope(const RopeShape& s, const float* qkv, float* q, float* k, float* v) const {
  const int64_t fused = fused_width(s), wide = s.heads * s.head_size;
  const int64_t narrow = s.kv_heads * s.head_size;
  for_rows(s, [&](int64_t begin, int64_t end, float* table) {
    const float* from = qkv + begin * fused;
    const int32_t* positions = s.positions + begin;
    rows.rope(from, fused, positions, s.inv_freq, end - begin, s.heads, s.head_size, s.rotated,
              s.attention_scaling, false, table, q + begin * wide, wide);
    rows.rope(from + wide, fused, positions, s.inv_freq, end - begin, s.kv_heads, s.head_size,
              s.rotated, s.attention_scaling, false, table, k + begin * narrow, narrow);
    for (int64_t t = begin; t < end; ++t) {
      rows.copy(qkv + t * fused + wide + narrow, narrow, v + t * narrow);
    }
  });
}

void Kernels::split_rope_backward(const RopeShape& s, const float* dq, const float* dk,
                                  const float* dv, float* dqkv) const {
  const int64_t fused = fused_width(s), wide = s.heads * s.head_size;
  const int64_t narrow = s.kv_heads * s.head_size;
  for_rows(s, [&](int64_t begin, int64_t end, float* table) {
    float* to = dqkv + begin * fused;
    const int32_t* positions = s.positions + begin;
    rows.rope(dq + begin * wide, wide, positions, s.inv_freq, end - begin, s.heads, s.head_size,
              s.rotated, s.attention_scaling, true, table, to, fused);
    rows.rope(dk + begin * narrow, narrow, positions, s.inv_freq, end - begin, s.kv_heads,
              s.head_size, s.rotated, s.attention_scaling, true, table, to + wide, fused);
    for (int64_t t = begin; t < end; ++t) {
      rows.copy(dv + t * narrow, narrow, dqkv + t * fused + wide + narrow);
    }
  });
}

}  // namespace toolkit
