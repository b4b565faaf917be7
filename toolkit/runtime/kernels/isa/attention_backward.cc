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
#include "kernels/isa/attention.h"
#include "kernels/isa/softmax.h"
#include "kernels/parallel.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

enum RowState { kMaximum, kReciprocal, kPivot, kDelta, kRowStates };

struct Inputs {
  const AttentionShape& s;
  const float* grad;
  const float* q;
  const float* k;
  const float* v;
  const float* probs;  // [H, T, T] or null
  float* rows;         // [kRowStates, H, T]

  float* row_state(RowState which, int64_t head) const {
    return rows + (which * s.heads + head) * s.tokens;
  }
};

/// Length of the first pass's strips: whole rows.
int64_t row_strip(const Inputs& in) { return round_up(in.s.tokens, kGroup); }

/// Scratch of one thread: packed heads, two packed row blocks, two strips and one packed strip.
struct Buffers {
  float* transposed[2];
  float* plain[2];
  float* left[2];
  float* scores;
  float* products;
  float* packed;
};

int64_t buffer_floats(const Inputs& in) {
  const int64_t size = in.s.head_size, tokens = in.s.tokens;
  return 2 * (right_floats(size, tokens) + right_floats(tokens, size)) +
         kBlock * (2 * size + 3 * max(row_strip(in), kStrip));
}

Buffers carve(float* base, const Inputs& in) {
  const int64_t size = in.s.head_size, tokens = in.s.tokens;
  Buffers b;
  for (int i = 0; i < 2; ++i) {
    b.transposed[i] = base;
    base += right_floats(size, tokens);
    b.plain[i] = base;
    base += right_floats(tokens, size);
    b.left[i] = base;
    base += kBlock * size;
  }
  b.scores = base;
  b.products = b.scores + kBlock * max(row_strip(in), kStrip);
  b.packed = b.products + kBlock * max(row_strip(in), kStrip);
  return b;
}

void zero(float* p, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = 0;
}

/// row[lo, hi), the scores of query t, become probabilities; m and 1 / l are kept.
void softmax_row(const Inputs& in, int64_t head, int64_t t, float* row, int64_t lo, int64_t hi) {
  const float best = row_maximum(row + lo, hi - lo, kNegative);
  const float reciprocal = 1.0f / exponentials(row + lo, hi - lo, best);
  scale_row(row + lo, hi - lo, reciprocal);
  in.row_state(kMaximum, head)[t] = best;
  in.row_state(kReciprocal, head)[t] = reciprocal;
}

/// For query t over its keys [lo, hi): products, dP, become dS, zero elsewhere; pivot and delta are
/// kept.
void score_gradient_row(const Inputs& in, int64_t head, int64_t t, const float* probs,
                        float* products, int64_t lo, int64_t hi, int64_t count) {
  const float best = row_maximum(probs + lo, hi - lo, 0.0f);
  int64_t likely = lo;
  while (likely + 1 < hi && probs[likely] != best) ++likely;
  const float pivot = products[likely];
  Floats weighted{}, total{};
  for_vectors(lo, hi, [&](int64_t i, int n) {
    const Floats p = load_part(probs + i, n);
    total += p;
    weighted += p * (load_part(products + i, n) - pivot);
  });
  const float delta = sum(weighted) / sum(total);
  in.row_state(kPivot, head)[t] = pivot;
  in.row_state(kDelta, head)[t] = delta;
  zero(products, lo);
  for_vectors(lo, hi, [&](int64_t i, int n) {
    const Floats difference = load_part(products + i, n) - pivot;
    store_part(products + i, load_part(probs + i, n) * (difference - delta), n);
  });
  zero(products + hi, count - hi);
}

void query_block(const Inputs& in, int64_t head, int64_t block, const Buffers& b, float* dq) {
  const AttentionShape& s = in.s;
  const int64_t size = s.head_size, stride = s.heads * size, tokens = s.tokens;
  const int64_t t0 = block * kBlock, rows = min(kBlock, tokens - t0), key_end = t0 + rows;
  int64_t key = key_end;
  for (int64_t i = 0; i < rows; ++i) key = min(key, first_key(s, t0 + i));
  key = key / kGroup * kGroup;
  const int64_t count = key_end - key, strip = row_strip(in);
  pack_left_blocks(head_of(in.grad, s.heads, head, size).rows(t0), rows, size, 1.0f, 0, 1,
                   b.left[1]);
  multiply_strip(Product(rows, count, b.products, strip)
                     .add({b.left[1], size}, packed_right(b.transposed[1], size, tokens, key)));
  if (in.probs == nullptr) {
    pack_left_blocks(head_of(in.q, s.heads, head, size).rows(t0), rows, size, s.scale, 0, 1,
                     b.left[0]);
    multiply_strip(Product(rows, count, b.scores, strip)
                       .add({b.left[0], size}, packed_right(b.transposed[0], size, tokens, key)));
  }
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t t = t0 + i, lo = first_key(s, t) - key, hi = t + 1 - key;
    const float* probs = b.scores + i * strip;
    if (in.probs == nullptr) {
      softmax_row(in, head, t, b.scores + i * strip, lo, hi);
    } else {
      probs = in.probs + (head * tokens + t) * tokens + key;
    }
    score_gradient_row(in, head, t, probs, b.products + i * strip, lo, hi, count);
  }
  pack_left_blocks({b.products, strip, 1}, rows, count, s.scale, 0, 1, b.packed);
  multiply_strip(Product(rows, size, dq + t0 * stride + head * size, stride)
                     .add({b.packed, count}, packed_right(b.plain[0], tokens, size, 0, key)));
}

/// For one key over queries [lo, count) of the strip: scores become P, products dS; zero where the
/// query does not see the key. `query` is the strip's first.
void score_gradient_column(const Inputs& in, int64_t head, int64_t query, int64_t key, int64_t lo,
                           int64_t count, float* scores, float* products) {
  const int32_t* start = in.s.start + query;
  const float* best = in.row_state(kMaximum, head) + query;
  const float* reciprocal = in.row_state(kReciprocal, head) + query;
  const float* pivot = in.row_state(kPivot, head) + query;
  const float* delta = in.row_state(kDelta, head) + query;
  zero(scores, lo);
  zero(products, lo);
  for_vectors(lo, count, [&](int64_t i, int n) {
    Ints first{};
    for (int j = 0; j < n; ++j) first[j] = start[i + j];
    const Ints seen = first <= static_cast<int32_t>(key);
    Floats p = load_part(scores + i, n);
    if (in.probs == nullptr) {
      p = exp(p - load_part(best + i, n)) * load_part(reciprocal + i, n);
      p = (Floats)(seen & (Ints)p);
      store_part(scores + i, p, n);
    }
    const Floats difference = load_part(products + i, n) - load_part(pivot + i, n);
    store_part(products + i, p * (difference - load_part(delta + i, n)), n);
  });
}

/// One past the last query that sees any key up to `key`.
int64_t query_end(const AttentionShape& s, int64_t key) {
  int64_t t = s.tokens;
  while (t > key + 1 && s.start[t - 1] > key) --t;
  return t;
}

void key_block(const Inputs& in, int64_t head, int64_t kv, int64_t block, bool accumulate,
               const Buffers& b, float* dk, float* dv) {
  const AttentionShape& s = in.s;
  const int64_t size = s.head_size, stride = s.kv_heads * size, tokens = s.tokens;
  const int64_t j0 = block * kBlock, rows = min(kBlock, tokens - j0);
  pack_left_blocks(head_of(in.k, s.kv_heads, kv, size).rows(j0), rows, size, 1.0f, 0, 1, b.left[0]);
  pack_left_blocks(head_of(in.v, s.kv_heads, kv, size).rows(j0), rows, size, 1.0f, 0, 1, b.left[1]);
  const int64_t end = query_end(s, j0 + rows - 1);
  const int64_t out = j0 * stride + kv * size;
  for (int64_t query = j0 / kGroup * kGroup; query < end; query += kStrip) {
    const int64_t count = min(kStrip, end - query);
    if (in.probs == nullptr) {
      multiply_strip(
          Product(rows, count, b.scores, kStrip)
              .add({b.left[0], size}, packed_right(b.transposed[0], size, tokens, query)));
    } else {
      transpose(in.probs + (head * tokens + query) * tokens + j0, count, rows, tokens, b.scores,
                kStrip);
    }
    multiply_strip(Product(rows, count, b.products, kStrip)
                       .add({b.left[1], size}, packed_right(b.transposed[1], size, tokens, query)));
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t lo = min(max(0, j0 + i - query), count);
      score_gradient_column(in, head, query, j0 + i, lo, count, b.scores + i * kStrip,
                            b.products + i * kStrip);
    }
    pack_left_blocks({b.scores, kStrip, 1}, rows, count, 1.0f, 0, 1, b.packed);
    multiply_strip(Product(rows, size, dv + out, stride, accumulate)
                       .add({b.packed, count}, packed_right(b.plain[1], tokens, size, 0, query)));
    pack_left_blocks({b.products, kStrip, 1}, rows, count, s.scale, 0, 1, b.packed);
    multiply_strip(Product(rows, size, dk + out, stride, accumulate)
                       .add({b.packed, count}, packed_right(b.plain[0], tokens, size, 0, query)));
    accumulate = true;
  }
}

/// First pass: delta and dq.
void query_pass(const Inputs& in, const float* cost, float* slices, int64_t slice, float* dq) {
  const AttentionShape& s = in.s;
  const auto pack = [&](int64_t kv, int thread) {
    const Buffers b = carve(slices + thread * slice, in);
    const Head k = head_of(in.k, s.kv_heads, kv, s.head_size);
    pack_head_transposed(k, s.tokens, s.head_size, b.transposed[0]);
    pack_head_plain(k, s.tokens, s.head_size, b.plain[0]);
    pack_head_transposed(head_of(in.v, s.kv_heads, kv, s.head_size), s.tokens, s.head_size,
                         b.transposed[1]);
  };
  for_query_blocks(s, cost, pack, [&](int64_t head, int64_t block, int thread) {
    query_block(in, head, block, carve(slices + thread * slice, in), dq);
  });
}

/// Second pass: dk and dv. A thread walks its key blocks once for every head of the group.
void key_pass(const Inputs& in, const float* cost, float* slices, int64_t slice, float* dk,
              float* dv) {
  const AttentionShape& s = in.s;
  const int64_t blocks = divide_up(s.tokens, kBlock), shares = threads(),
                group = s.heads / s.kv_heads;
  const TaskSplit split(cost, blocks, s.kv_heads);
  parallel(shares, [&](int64_t first, int64_t last, int thread) {
    const Buffers b = carve(slices + thread * slice, in);
    int64_t task = split.begin(first, shares);
    const int64_t end = split.begin(last, shares);
    while (task < end) {
      const int64_t kv = task / blocks, block0 = task % blocks;
      const int64_t block1 = min(blocks, block0 + end - task);
      for (int64_t g = 0; g < group; ++g) {
        const int64_t head = kv * group + g;
        const Head q = head_of(in.q, s.heads, head, s.head_size);
        const Head grad = head_of(in.grad, s.heads, head, s.head_size);
        pack_head_transposed(q, s.tokens, s.head_size, b.transposed[0]);
        scale_row(b.transposed[0], right_floats(s.head_size, s.tokens), s.scale);
        pack_head_plain(q, s.tokens, s.head_size, b.plain[0]);
        pack_head_transposed(grad, s.tokens, s.head_size, b.transposed[1]);
        pack_head_plain(grad, s.tokens, s.head_size, b.plain[1]);
        for (int64_t block = block0; block < block1; ++block) {
          key_block(in, head, kv, block, g > 0, b, dk, dv);
        }
      }
      task += block1 - block0;
    }
  });
}

void backward(const Inputs& in, float* dq, float* dk, float* dv) {
  Scratch scratch;
  const AttentionShape& s = in.s;
  const int64_t blocks = divide_up(s.tokens, kBlock), slice = round_up(buffer_floats(in), 16);
  float* cost = scratch.floats(blocks);
  float* slices = scratch.floats(slice * threads());
  query_costs(s, cost);
  query_pass(in, cost, slices, slice, dq);
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t last = min(s.tokens, (b + 1) * kBlock) - 1;
    cost[b] = static_cast<float>(query_end(s, last) - b * kBlock + kBlock);
  }
  key_pass(in, cost, slices, slice, dk, dv);
}

}  // namespace

void attention_backward(const AttentionShape& s, const float* grad, const float* q, const float* k,
                        const float* v, float* dq, float* dk, float* dv) {
  Scratch scratch;
  backward({s, grad, q, k, v, nullptr, scratch.floats(kRowStates * s.heads * s.tokens)}, dq, dk,
           dv);
}

void attention_saved_backward(const AttentionShape& s, const float* grad, const float* q,
                              const float* k, const float* v, const float* probs, float* dq,
                              float* dk, float* dv) {
  Scratch scratch;
  backward({s, grad, q, k, v, probs, scratch.floats(kRowStates * s.heads * s.tokens)}, dq, dk, dv);
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
