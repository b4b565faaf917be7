// Causal grouped-query attention, forward: out = softmax(scale q kᵀ) v, row t over keys
// start[t]..t.
//
// A task is one head and a block of query rows. Keys come in strips; the running maximum m, the sum
// l and the accumulated output are rescaled when m grows (online softmax). Threads share the packed
// keys and values of some kv-heads. Scratch, in floats, with `size` the head's:
//
//   2 T size x kv-heads packed at a time (one, or more within Tiles::shared)
//   + threads x block (size + 2 strips)
#include "kernels/attention.h"

#include <vector>

namespace toolkit {

int64_t first_key_of(const Kernels& k, const AttentionShape& s, const RowBlock& queries) {
  int64_t key = s.past + queries.end();
  for (int64_t t = queries.first; t < queries.end(); ++t) key = min(key, first_key(s, t));
  return key / k.tiles.group * k.tiles.group;
}

void PackedHeads::pack_slice(const Packing& packing, int64_t head, int64_t token, void* out) const {
  const int64_t count = min(kSlice, tokens_ - token);
  const View rows = HeadOf(packing.tensor, packing.heads, head, size_).rows(token);
  if (packing.transposed) {
    const RightPart part{size_, tokens_, token, count, 0, size_};
    k_.float32.pack_right(toolkit::transposed(rows.data, rows.row_stride), part, 1.0f, out);
  } else {
    const RightPart part{tokens_, size_, 0, size_, token, count};
    k_.float32.pack_right(plain_right(rows.data, rows.row_stride), part, 1.0f, out);
  }
}

void PackedHeads::pack(int64_t first, int64_t heads, void* memory) {
  first_ = first;
  memory_ = static_cast<char*>(memory);
  const int64_t slices = divide_up(tokens_, kSlice);
  parallel_short(heads * count_ * slices, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t head = first + i / slices / count_;
      const int which = static_cast<int>(i / slices % count_);
      pack_slice(packings_[which], head, i % slices * kSlice, at(which, head));
    }
  });
}

Right PackedHeads::operand(int which, int64_t head, int64_t token) const {
  Right right;
  right.kind = Right::kPacked;
  right.packed = at(which, head);
  if (packings_[which].transposed) {
    right.stride = size_;
    right.columns = tokens_;
    right.column0 = token;
  } else {
    right.stride = tokens_;
    right.columns = size_;
    right.depth0 = token;
  }
  return right;
}

void multiply_strip(const Kernels& k, const Product& product) {
  const int64_t blocks = divide_up(product.rows, k.tiles.block);
  for (int64_t group = 0; group < divide_up(product.columns, k.tiles.group); ++group) {
    product.arithmetic->multiply_groups(product, group, 1, 0, blocks, nullptr);
  }
}

void for_forward_tasks(const Kernels& k, const AttentionShape& s, const float* keys,
                       const float* values, const std::function<void(const ForwardTask&)>& run) {
  Scratch scratch;
  PackedHeads heads(k, s, {{keys, s.kv_heads, true}, {values, s.kv_heads, false}});
  void* shared = scratch.bytes(heads.bytes(s.kv_heads));
  // Rows of scores that lie apart by a power of two would share few lines of the cache.
  const int64_t strip = min(k.tiles.strip, round_up(s.keys(), k.tiles.group));
  const int64_t stride = strip + kPanel;
  ThreadScratch slices(k);
  const int64_t query = slices.left(s.head_size), scores = slices.rows(stride),
                packed = slices.left(strip);
  slices.allocate(scratch);
  for_query_blocks(k, s, heads, shared, [&](int64_t head, int64_t block, int thread) {
    char* slice = slices.of(thread);
    run({head, head / (s.heads / s.kv_heads), RowBlock(k, s, block), heads, slice + query,
         reinterpret_cast<float*>(slice + scores), stride, slice + packed});
  });
}

void Kernels::attention(const AttentionShape& s, const float* q, const float* keys,
                        const float* values, float* out) const {
  const int64_t size = s.head_size, row = s.heads * size;
  for_forward_tasks(*this, s, keys, values, [&](const ForwardTask& task) {
    const RowBlock& queries = task.queries;
    const View view = HeadOf(q, s.heads, task.head, size).rows(queries.first);
    float32.pack_left(view, queries.rows, size, s.scale, 0, 1, task.query);
    float* to = out + queries.first * row + task.head * size;
    RunningSoftmax running[kMostBlock];
    const int64_t begin = first_key_of(*this, s, queries), end = s.past + queries.end();
    for (int64_t key = begin; key < end; key += tiles.strip) {
      const int64_t count = min(tiles.strip, end - key);
      Product scores(float32, queries.rows, count, task.scores, task.stride);
      multiply_strip(*this, scores.add({task.query, size},
                                       task.heads.operand(ForwardTask::kKeys, task.kv_head, key)));
      for (int64_t i = 0; i < queries.rows; ++i) {
        const int64_t t = queries.first + i;
        const int64_t hi = max(0, min(s.past + t + 1 - key, count));
        const int64_t lo = min(max(0, first_key(s, t) - key), hi);
        rows.attention_strip(task.scores + i * task.stride, lo, hi, count, &running[i],
                             key > begin ? to + i * row : nullptr, size);
      }
      float32.pack_left({task.scores, task.stride, 1}, queries.rows, count, 1.0f, 0, 1,
                        task.packed);
      Product sums(float32, queries.rows, size, to, row, key > begin);
      multiply_strip(*this, sums.add({task.packed, count},
                                     task.heads.operand(ForwardTask::kValues, task.kv_head, key)));
    }
    for (int64_t i = 0; i < queries.rows; ++i)
      rows.attention_finish(running[i], to + i * row, size);
  });
}

}  // namespace toolkit
