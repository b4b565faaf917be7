// Causal grouped-query attention, backward. With P the probabilities:
//
//   dP = g vᵀ,  dS = P * ((dP - pivot) - delta),  delta = Σ_j P (dP - pivot) / Σ_j P
//   dq = scale dS k,  dk = scale dSᵀ q,  dv = Pᵀ g
//
// Two passes, both recomputing P = exp(S - m) / l with S = scale q kᵀ (or reading it where it was
// saved): the first owns query blocks and makes whole rows of S and dP, m, l, delta and dq; the
// second owns key blocks, goes through the queries in strips and sums dk and dv over the heads of
// its group. Every output element has one owner, so there is nothing to reduce between threads.
//
// The pivot, dP at the row's most probable key, changes nothing but the rounding: where a row looks
// at one key (an attention sink), dP - Σ P dP is a small difference of large terms, and with
// Σ_d g[t,d] out[t,d] for the sum it would be noise. Both passes add up S and dP in the same order,
// so they are the same to the last bit. m and l are kept apart because their sum in one float,
// m + log l, would lose the last digits of P.
//
// Threads share the packed heads of a pass: k twice and v of some kv-heads, then q and g twice of
// some heads. Scratch, in floats, with `size` the head's:
//
//   4 H T + the larger of 3 T size x kv-heads and 4 T size x heads packed at a time (one, or more
//   within Tiles::shared) + threads x block (2 size + 2 T + strip)
#include "kernels/attention_backward.h"

namespace toolkit {
namespace {

constexpr int64_t kStates = 4;  // of QueryStates

/// What a pass packs. The second pass's lists have the same order for q and g as the first's for k
/// and v, whose values are needed one way only.
enum Packed { kScoresRight, kProductsRight, kPlainScores, kPlainProducts };

/// One past the last query that sees any key up to `key`.
int64_t query_end(const AttentionShape& s, int64_t key) {
  int64_t t = s.tokens;
  while (t > key + 1 && s.start[t - 1] > key) --t;
  return t;
}

}  // namespace

AttentionBackward::AttentionBackward(const Kernels& k, const AttentionShape& s, const float* grad,
                                     const float* q, const float* keys, const float* values)
    : k_(k),
      s_(s),
      grad_(grad),
      q_(q),
      keys_(keys),
      values_(values),
      packed_keys_(
          k, s, {{keys, s.kv_heads, true}, {values, s.kv_heads, true}, {keys, s.kv_heads, false}}),
      packed_queries_(k, s,
                      {{q, s.heads, true, s.scale},
                       {grad, s.heads, true},
                       {q, s.heads, false},
                       {grad, s.heads, false}}),
      // The first pass makes whole rows, the second strips. Rows that lie apart by a power of two
      // would share few lines of the cache.
      row_stride_(round_up(s.tokens, k.tiles.group) + kPanel),
      strip_stride_(min(row_stride_, k.tiles.strip + kPanel)),
      slices_(k) {
  for (int64_t& left : left_) left = slices_.left(s.head_size);
  scores_ = slices_.rows(row_stride_);
  products_ = slices_.rows(row_stride_);
  packed_ = slices_.left(min(k.tiles.strip, s.tokens));
}

void AttentionBackward::run(float* dq, float* dk, float* dv) {
  Scratch scratch;
  states_ = scratch.floats(kStates * s_.heads * s_.tokens);
  void* shared =
      scratch.bytes(max(packed_keys_.bytes(s_.kv_heads), packed_queries_.bytes(s_.heads)));
  slices_.allocate(scratch);
  query_pass(shared, dq);
  key_pass(shared, dk, dv);
}

AttentionBackward::Buffers AttentionBackward::buffers_of(int thread) const {
  char* slice = slices_.of(thread);
  return {{slice + left_[0], slice + left_[1]},
          reinterpret_cast<float*>(slice + scores_),
          reinterpret_cast<float*>(slice + products_),
          slice + packed_};
}

QueryStates AttentionBackward::states_of(int64_t head) const {
  const int64_t all = s_.heads * s_.tokens;
  float* first = states_ + head * s_.tokens;
  return {first, first + all, first + 2 * all, first + 3 * all};
}

/// First pass: delta and dq.
void AttentionBackward::query_pass(void* shared, float* dq) {
  for_query_blocks(k_, s_, packed_keys_, shared, [&](int64_t head, int64_t block, int thread) {
    query_block(head, block, buffers_of(thread), dq);
  });
}

AttentionBackward::Rows AttentionBackward::probabilities(int64_t head, const RowBlock& queries,
                                                         int64_t key, int64_t count,
                                                         const Buffers& b) {
  const int64_t size = s_.head_size, kv = head / (s_.heads / s_.kv_heads);
  const View view = HeadOf(q_, s_.heads, head, size).rows(queries.first);
  k_.float32.pack_left(view, queries.rows, size, s_.scale, 0, 1, b.left[0]);
  Product scores(k_.float32, queries.rows, count, b.scores, row_stride_);
  multiply_strip(k_, scores.add({b.left[0], size}, packed_keys_.operand(kScoresRight, kv, key)));
  const QueryStates states = states_of(head);
  for (int64_t i = 0; i < queries.rows; ++i) {
    const int64_t t = queries.first + i, lo = first_key(s_, t) - key;
    k_.rows.softmax(b.scores + i * row_stride_ + lo, t + 1 - key - lo, states.from(t));
  }
  return {b.scores, row_stride_};
}

void AttentionBackward::query_block(int64_t head, int64_t block, const Buffers& b, float* dq) {
  const int64_t size = s_.head_size, stride = s_.heads * size;
  const int64_t kv = head / (s_.heads / s_.kv_heads);
  const RowBlock queries(k_, s_, block);
  const int64_t key = first_key_of(k_, s_, queries), count = queries.end() - key;
  const View grad = HeadOf(grad_, s_.heads, head, size).rows(queries.first);
  k_.float32.pack_left(grad, queries.rows, size, 1.0f, 0, 1, b.left[1]);
  Product products(k_.float32, queries.rows, count, b.products, row_stride_);
  products.add({b.left[1], size}, packed_keys_.operand(kProductsRight, kv, key));
  multiply_strip(k_, products);
  const Rows probs = probabilities(head, queries, key, count, b);
  const QueryStates states = states_of(head);
  for (int64_t i = 0; i < queries.rows; ++i) {
    const int64_t t = queries.first + i;
    k_.rows.query_gradient(probs.first + i * probs.stride, first_key(s_, t) - key, t + 1 - key,
                           count, states.from(t), b.products + i * row_stride_);
  }
  for (int64_t first = 0; first < count; first += k_.tiles.strip) {
    const int64_t keys = min(k_.tiles.strip, count - first);
    k_.float32.pack_left({b.products + first, row_stride_, 1}, queries.rows, keys, s_.scale, 0, 1,
                         b.packed);
    Product out(k_.float32, queries.rows, size, dq + queries.first * stride + head * size, stride,
                first > 0);
    out.add({b.packed, keys}, packed_keys_.operand(kPlainScores, kv, key + first));
    multiply_strip(k_, out);
  }
}

/// Second pass: dk and dv, for some heads at a time, which are a group or more, or part of one. A
/// thread walks its key blocks once for every head of the group.
void AttentionBackward::key_pass(void* shared, float* dk, float* dv) {
  const int64_t blocks = divide_up(s_.tokens, k_.tiles.block), group = s_.heads / s_.kv_heads;
  const int64_t most = packed_queries_.at_a_time(s_.heads);
  const int64_t step = most < group ? most : most / group * group;
  for (int64_t first = 0, count; first < s_.heads; first += count) {
    // No batch reaches over a group it does not begin.
    count = min(step, step < group ? group - first % group : s_.heads - first);
    packed_queries_.pack(first, count, shared);
    const int64_t kv0 = first / group;
    const auto run = [&](int64_t task, int64_t end, int thread) {
      const Buffers b = buffers_of(thread);
      while (task < end) {
        const int64_t kv = kv0 + task / blocks, block0 = task % blocks;
        const int64_t block1 = min(blocks, block0 + end - task);
        const int64_t last = min(first + count, (kv + 1) * group);
        for (int64_t head = max(first, kv * group); head < last; ++head) {
          for (int64_t block = block0; block < block1; ++block) {
            key_block(head, kv, block, b, dk, dv);
          }
        }
        task += block1 - block0;
      }
    };
    parallel_balanced(divide_up(count, group) * blocks, 1, run);
  }
}

void AttentionBackward::scores_of_keys(int64_t head, const RowBlock& keys, int64_t query,
                                       int64_t count, int64_t stride, const Buffers& b) {
  Product scores(k_.float32, keys.rows, count, b.scores, stride);
  scores.add({b.left[0], s_.head_size}, packed_queries_.operand(kScoresRight, head, query));
  multiply_strip(k_, scores);
}

void AttentionBackward::key_block(int64_t head, int64_t kv, int64_t block, const Buffers& b,
                                  float* dk, float* dv) {
  const int64_t size = s_.head_size, stride = s_.kv_heads * size, row = strip_stride_;
  const RowBlock keys(k_, s_, block);
  const View key_rows = HeadOf(keys_, s_.kv_heads, kv, size).rows(keys.first);
  const View value_rows = HeadOf(values_, s_.kv_heads, kv, size).rows(keys.first);
  k_.float32.pack_left(key_rows, keys.rows, size, 1.0f, 0, 1, b.left[0]);
  k_.float32.pack_left(value_rows, keys.rows, size, 1.0f, 0, 1, b.left[1]);
  const QueryStates states = states_of(head);
  const int64_t end = query_end(s_, keys.end() - 1), out = keys.first * stride + kv * size;
  bool accumulate = head % (s_.heads / s_.kv_heads) > 0;
  for (int64_t query = keys.first / k_.tiles.group * k_.tiles.group; query < end;
       query += k_.tiles.strip) {
    const int64_t count = min(k_.tiles.strip, end - query);
    scores_of_keys(head, keys, query, count, row, b);
    Product products(k_.float32, keys.rows, count, b.products, row);
    products.add({b.left[1], size}, packed_queries_.operand(kProductsRight, head, query));
    multiply_strip(k_, products);
    for (int64_t i = 0; i < keys.rows; ++i) {
      const int64_t key = keys.first + i, lo = min(max(0, key - query), count);
      k_.rows.key_gradient(s_.start + query, states.from(query), key, lo, count, is_saved(),
                           b.scores + i * row, b.products + i * row);
    }
    const auto add_to = [&](float* sums, const float* strip, float scale, Packed with) {
      k_.float32.pack_left({strip, row, 1}, keys.rows, count, scale, 0, 1, b.packed);
      Product product(k_.float32, keys.rows, size, sums + out, stride, accumulate);
      product.add({b.packed, count}, packed_queries_.operand(with, head, query));
      multiply_strip(k_, product);
    };
    add_to(dv, b.scores, 1.0f, kPlainProducts);
    add_to(dk, b.products, s_.scale, kPlainScores);
    accumulate = true;
  }
}

void Kernels::attention_backward(const AttentionShape& s, const float* grad, const float* q,
                                 const float* keys, const float* values, float* dq, float* dk,
                                 float* dv) const {
  AttentionBackward(*this, s, grad, q, keys, values).run(dq, dk, dv);
}

}  // namespace toolkit
