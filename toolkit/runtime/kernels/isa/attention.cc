// Causal grouped-query attention, forward: out = softmax(scale q kᵀ) v, row t over keys
// start[t]..t.
//
// A task is one head and kBlock query rows. Keys come in strips of kStrip; the running maximum m,
// the sum l and the accumulated output are rescaled when m grows (online softmax), so scratch grows
// with the strip, not with T². A thread packs keys and values of the kv-head it is at.
#include "kernels/isa/attention.h"

#include <cmath>

#include "kernels/isa/softmax.h"
#include "kernels/parallel.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

struct Running {
  float maximum[kBlock];
  float sum[kBlock];
};

/// row[lo, hi) becomes exp(row - maximum), the rest of row[0, count) zero; returns the sum.
float masked_exponentials(float* row, int64_t lo, int64_t hi, int64_t count, float maximum) {
  for (int64_t i = 0; i < lo; ++i) row[i] = 0;
  const float total = exponentials(row + lo, hi - lo, maximum);
  for (int64_t i = hi; i < count; ++i) row[i] = 0;
  return total;
}

/// Scratch of one thread.
struct Buffers {
  float* keys;    // packed [size, tokens]
  float* values;  // packed [tokens, size]
  float* query;   // packed row block
  float* strip;   // scores [kBlock, strip length]
  float* packed;  // the strip as a left operand
};

int64_t buffer_floats(const AttentionShape& s, int64_t strip) {
  return right_floats(s.head_size, s.tokens) + right_floats(s.tokens, s.head_size) +
         kBlock * (s.head_size + 2 * strip);
}

Buffers carve(float* base, const AttentionShape& s, int64_t strip) {
  Buffers b;
  b.keys = base;
  b.values = b.keys + right_floats(s.head_size, s.tokens);
  b.query = b.values + right_floats(s.tokens, s.head_size);
  b.strip = b.query + kBlock * s.head_size;
  b.packed = b.strip + kBlock * strip;
  return b;
}

void block_forward(const AttentionShape& s, const float* q, int64_t head, int64_t block,
                   const Buffers& b, float* out) {
  const int64_t size = s.head_size, stride = s.heads * size;
  const int64_t t0 = block * kBlock, rows = min(kBlock, s.tokens - t0), key_end = t0 + rows;
  pack_left_blocks(head_of(q, s.heads, head, size).rows(t0), rows, size, s.scale, 0, 1, b.query);
  float* to = out + t0 * stride + head * size;
  Running running;
  int64_t key_begin = key_end;
  for (int64_t i = 0; i < rows; ++i) {
    running.maximum[i] = kNegative;
    running.sum[i] = 0;
    key_begin = min(key_begin, first_key(s, t0 + i));
  }
  key_begin = key_begin / kGroup * kGroup;
  for (int64_t key = key_begin; key < key_end; key += kStrip) {
    const int64_t count = min(kStrip, key_end - key);
    multiply_strip(Product(rows, count, b.strip, kStrip)
                       .add({b.query, size}, packed_right(b.keys, size, s.tokens, key)));
    for (int64_t i = 0; i < rows; ++i) {
      float* row = b.strip + i * kStrip;
      const int64_t t = t0 + i;
      const int64_t hi = max(0, min(t + 1 - key, count));
      const int64_t lo = min(max(0, first_key(s, t) - key), hi);
      const float maximum = row_maximum(row + lo, hi - lo, running.maximum[i]);
      const float correction = std::exp(running.maximum[i] - maximum);
      running.sum[i] =
          running.sum[i] * correction + masked_exponentials(row, lo, hi, count, maximum);
      running.maximum[i] = maximum;
      if (key > key_begin && correction != 1.0f) scale_row(to + i * stride, size, correction);
    }
    pack_left_blocks({b.strip, kStrip, 1}, rows, count, 1.0f, 0, 1, b.packed);
    multiply_strip(Product(rows, size, to, stride, key > key_begin)
                       .add({b.packed, count}, packed_right(b.values, s.tokens, size, 0, key)));
  }
  for (int64_t i = 0; i < rows; ++i) scale_row(to + i * stride, size, 1.0f / running.sum[i]);
}

void block_forward_saved(const AttentionShape& s, const float* q, int64_t head, int64_t block,
                         const Buffers& b, float* out, float* probs) {
  const int64_t size = s.head_size, stride = s.heads * size, tokens = s.tokens;
  const int64_t t0 = block * kBlock, rows = min(kBlock, tokens - t0), key_end = t0 + rows;
  pack_left_blocks(head_of(q, s.heads, head, size).rows(t0), rows, size, s.scale, 0, 1, b.query);
  float* strip = probs + (head * tokens + t0) * tokens;
  multiply_strip(Product(rows, key_end, strip, tokens)
                     .add({b.query, size}, packed_right(b.keys, size, tokens)));
  for (int64_t i = 0; i < rows; ++i) {
    float* row = strip + i * tokens;
    const int64_t t = t0 + i, lo = first_key(s, t);
    const float total =
        masked_exponentials(row, lo, t + 1, tokens, row_maximum(row + lo, t + 1 - lo, kNegative));
    scale_row(row + lo, t + 1 - lo, 1.0f / total);
  }
  pack_left_blocks({strip, tokens, 1}, rows, key_end, 1.0f, 0, 1, b.packed);
  multiply_strip(Product(rows, size, out + t0 * stride + head * size, stride)
                     .add({b.packed, key_end}, packed_right(b.values, tokens, size)));
}

/// Calls run(head, block, buffers) for all tasks, each thread with keys and values of the head
/// packed.
template <typename Run>
void for_tasks(const AttentionShape& s, const float* k, const float* v, int64_t strip, Run run) {
  Scratch scratch;
  float* cost = scratch.floats(divide_up(s.tokens, kBlock));
  query_costs(s, cost);
  const int64_t slice = round_up(buffer_floats(s, strip), 16);
  float* slices = scratch.floats(slice * threads());
  const auto buffers = [&](int thread) { return carve(slices + thread * slice, s, strip); };
  const auto pack = [&](int64_t kv, int thread) {
    const Buffers b = buffers(thread);
    pack_head_transposed(head_of(k, s.kv_heads, kv, s.head_size), s.tokens, s.head_size, b.keys);
    pack_head_plain(head_of(v, s.kv_heads, kv, s.head_size), s.tokens, s.head_size, b.values);
  };
  for_query_blocks(s, cost, pack, [&](int64_t head, int64_t block, int thread) {
    run(head, block, buffers(thread));
  });
}

}  // namespace

void query_costs(const AttentionShape& s, float* cost) {
  const int64_t blocks = divide_up(s.tokens, kBlock);
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t t0 = b * kBlock, t1 = min(s.tokens, t0 + kBlock);
    cost[b] = static_cast<float>(kBlock);
    for (int64_t t = t0; t < t1; ++t) cost[b] += static_cast<float>(t + 1 - first_key(s, t));
  }
}

void attention(const AttentionShape& s, const float* q, const float* k, const float* v,
               float* out) {
  for_tasks(s, k, v, kStrip, [&](int64_t head, int64_t block, const Buffers& b) {
    block_forward(s, q, head, block, b, out);
  });
}

void attention_saved(const AttentionShape& s, const float* q, const float* k, const float* v,
                     float* out, float* probs) {
  for_tasks(s, k, v, round_up(s.tokens, kPanel),
            [&](int64_t head, int64_t block, const Buffers& b) {
              block_forward_saved(s, q, head, block, b, out, probs);
            });
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
