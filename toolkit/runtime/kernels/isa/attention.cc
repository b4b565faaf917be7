// Causal grouped-query attention, forward: out = softmax(scale q kᵀ) v, row t over keys
// start[t]..t.
//
// A task is one head and kBlock query rows. Keys come in strips of kStrip; the running maximum m,
// the sum l and the accumulated output are rescaled when m grows (online softmax). Threads share
// the packed keys and values of some kv-heads. Scratch, in floats, with `size` the head's:
//
//   2 T size x kv-heads packed at a time (one, or more within 512 KiB)
//   + threads x kBlock (size + 2 kStrip)
#include "kernels/isa/attention.h"

#include <cmath>

#include "kernels/isa/pack.h"
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

/// Length of a strip, and from one row of its scores to the next: rows that lie apart by a power of
/// two would share few lines of the cache.
int64_t strip_length(const AttentionShape& s) { return min(kStrip, round_up(s.tokens, kGroup)); }
int64_t strip_stride(const AttentionShape& s) { return strip_length(s) + kPanel; }

/// Scratch of one thread.
struct Buffers {
  float* query;   // packed row block
  float* strip;   // scores [kBlock, strip length]
  float* packed;  // the strip as a left operand
};

int64_t buffer_floats(const AttentionShape& s) {
  return round_up(kBlock * (s.head_size + strip_stride(s) + strip_length(s)), 16);
}

Buffers carve(float* base, const AttentionShape& s) {
  float* strip = base + kBlock * s.head_size;
  return {base, strip, strip + kBlock * strip_stride(s)};
}

enum Packed { kKeys, kValues };

void block_forward(const AttentionShape& s, const float* q, int64_t head, int64_t block,
                   const PackedHeads& heads, const Buffers& b, float* out) {
  const int64_t size = s.head_size, stride = s.heads * size, kv = head / (s.heads / s.kv_heads);
  const int64_t t0 = block * kBlock, rows = min(kBlock, s.tokens - t0), key_end = t0 + rows;
  pack_left_blocks(head_of(q, s.heads, head, size).rows(t0), rows, size, s.scale, 0, 1, b.query);
  float* to = out + t0 * stride + head * size;
  const int64_t strip = strip_stride(s);
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
    multiply_strip(
        Product(rows, count, b.strip, strip).add({b.query, size}, heads.operand(kKeys, kv, key)));
    for (int64_t i = 0; i < rows; ++i) {
      float* row = b.strip + i * strip;
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
    pack_left_blocks({b.strip, strip, 1}, rows, count, 1.0f, 0, 1, b.packed);
    multiply_strip(Product(rows, size, to, stride, key > key_begin)
                       .add({b.packed, count}, heads.operand(kValues, kv, key)));
  }
  for (int64_t i = 0; i < rows; ++i) scale_row(to + i * stride, size, 1.0f / running.sum[i]);
}

void block_forward_saved(const AttentionShape& s, const float* q, int64_t head, int64_t block,
                         const PackedHeads& heads, const Buffers& b, float* out, float* probs) {
  const int64_t size = s.head_size, stride = s.heads * size, tokens = s.tokens;
  const int64_t kv = head / (s.heads / s.kv_heads);
  const int64_t t0 = block * kBlock, rows = min(kBlock, tokens - t0), key_end = t0 + rows;
  pack_left_blocks(head_of(q, s.heads, head, size).rows(t0), rows, size, s.scale, 0, 1, b.query);
  float* scores = probs + (head * tokens + t0) * tokens;
  multiply_strip(
      Product(rows, key_end, scores, tokens).add({b.query, size}, heads.operand(kKeys, kv, 0)));
  for (int64_t i = 0; i < rows; ++i) {
    float* row = scores + i * tokens;
    const int64_t t = t0 + i, lo = first_key(s, t);
    const float total =
        masked_exponentials(row, lo, t + 1, tokens, row_maximum(row + lo, t + 1 - lo, kNegative));
    scale_row(row + lo, t + 1 - lo, 1.0f / total);
  }
  for (int64_t key = 0; key < key_end; key += kStrip) {
    const int64_t count = min(kStrip, key_end - key);
    pack_left_blocks({scores + key, tokens, 1}, rows, count, 1.0f, 0, 1, b.packed);
    multiply_strip(Product(rows, size, out + t0 * stride + head * size, stride, key > 0)
                       .add({b.packed, count}, heads.operand(kValues, kv, key)));
  }
}

/// Calls run(head, block, packed heads, buffers) for all tasks.
template <typename Run>
void for_tasks(const AttentionShape& s, const float* k, const float* v, Run run) {
  Scratch scratch;
  PackedHeads heads(s, {{k, s.kv_heads, true}, {v, s.kv_heads, false}});
  float* shared = scratch.floats(heads.floats(s.kv_heads));
  const int64_t slice = buffer_floats(s);
  float* slices = scratch.floats(slice * threads());
  for_query_blocks(s, heads, shared, [&](int64_t head, int64_t block, int thread) {
    run(head, block, heads, carve(slices + thread * slice, s));
  });
}

}  // namespace

void PackedHeads::pack_slice(const Packing& packing, int64_t head, int64_t token,
                             float* out) const {
  const int64_t count = min(kSlice, tokens_ - token), stride = packing.heads * size_;
  const float* data = packing.tensor + head * size_ + token * stride;
  if (packing.transposed) {
    out += token * size_;
    pack_right_groups(toolkit::TOOLKIT_ISA::transposed(data, stride), size_, count, 0,
                      divide_up(count, kGroup), out);
    if (packing.scale != 1.0f) scale_row(out, right_floats(size_, count), packing.scale);
    return;
  }
  for (int64_t column = 0; column < size_; column += kGroup) {
    const int64_t columns = min(kGroup, size_ - column), width = round_up(columns, kPanel);
    pack_group(plain_right(data, stride), column, columns, 0, count, width,
               out + column * tokens_ + token * width);
  }
}

void PackedHeads::pack(int64_t first, int64_t heads, float* memory) {
  first_ = first;
  memory_ = memory;
  const int64_t slices = divide_up(tokens_, kSlice);
  parallel_short(heads * count_ * slices, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t head = first + i / slices / count_;
      const int which = static_cast<int>(i / slices % count_);
      pack_slice(packings_[which], head, i % slices * kSlice, at(which, head));
    }
  });
}

void attention(const AttentionShape& s, const float* q, const float* k, const float* v,
               float* out) {
  for_tasks(s, k, v, [&](int64_t head, int64_t block, const PackedHeads& heads, const Buffers& b) {
    block_forward(s, q, head, block, heads, b, out);
  });
}

void attention_saved(const AttentionShape& s, const float* q, const float* k, const float* v,
                     float* out, float* probs) {
  for_tasks(s, k, v, [&](int64_t head, int64_t block, const PackedHeads& heads, const Buffers& b) {
    block_forward_saved(s, q, head, block, heads, b, out, probs);
  });
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
