// Attention whose probabilities [H, T, T] are kept by the forward and read by the backward: the
// lowering (mebp) that saves what plain autodiff saves.
#include "kernels/attention_backward.h"

namespace toolkit {

void Kernels::attention_saved(const AttentionShape& s, const float* q, const float* keys,
                              const float* values, float* out, float* probs) const {
  const int64_t size = s.head_size, row = s.heads * size, tokens = s.tokens;
  for_forward_tasks(*this, s, keys, values, [&](const ForwardTask& task) {
    const RowBlock& queries = task.queries;
    const View view = HeadOf(q, s.heads, task.head, size).rows(queries.first);
    float32.pack_left(view, queries.rows, size, s.scale, 0, 1, task.query);
    float* scores = probs + (task.head * tokens + queries.first) * tokens;
    const int64_t begin = first_key(s, queries.first) / tiles.strip * tiles.strip;
    Product product(float32, queries.rows, queries.end() - begin, scores + begin, tokens);
    product.add({task.query, size}, task.heads.operand(ForwardTask::kKeys, task.kv_head, begin));
    multiply_strip(*this, product);
    for (int64_t i = 0; i < queries.rows; ++i) {
      const int64_t t = queries.first + i;
      rows.masked_softmax(scores + i * tokens, first_key(s, t), t + 1, tokens);
    }
    for (int64_t key = begin; key < queries.end(); key += tiles.strip) {
      const int64_t count = min(tiles.strip, queries.end() - key);
      float32.pack_left({scores + key, tokens, 1}, queries.rows, count, 1.0f, 0, 1, task.packed);
      Product sums(float32, queries.rows, size, out + queries.first * row + task.head * size, row,
                   key > begin);
      sums.add({task.packed, count}, task.heads.operand(ForwardTask::kValues, task.kv_head, key));
      multiply_strip(*this, sums);
    }
  });
}

void Kernels::attention_saved_backward(const AttentionShape& s, const float* grad, const float* q,
                                       const float* keys, const float* values, const float* probs,
                                       float* dq, float* dk, float* dv) const {
  AttentionBackward(*this, s, grad, q, keys, values, probs).run(dq, dk, dv);
}

}  // namespace toolkit
