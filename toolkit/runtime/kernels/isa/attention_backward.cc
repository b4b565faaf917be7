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
//   within 512 KiB) + threads x kBlock (2 size + 2 T + kStrip)
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

/// From one row of S and dP to the next: the first pass makes whole rows, the second strips. Rows
/// that lie apart by a power of two would share few lines of the cache.
int64_t row_stride(const Inputs& in) { return round_up(in.s.tokens, kGroup) + kPanel; }
int64_t strip_stride(const Inputs& in) { return min(row_stride(in), kStrip + kPanel); }

/// Scratch of one thread: two packed row blocks, rows of S and dP, and a packed strip.
struct Buffers {
  float* left[2];
  float* scores;
  float* products;
  float* packed;
};

int64_t buffer_floats(const Inputs& in) {
  return round_up(kBlock * (2 * in.s.head_size + 2 * row_stride(in) + min(kStrip, in.s.tokens)),
                  16);
}

Buffers carve(float* base, const Inputs& in) {
  Buffers b;
  for (float*& left : b.left) {
    left = base;
    base += kBlock * in.s.head_size;
  }
  b.scores = base;
  b.products = b.scores + kBlock * row_stride(in);
  b.packed = b.products + kBlock * row_stride(in);
  return b;
}

/// What a pass packs. The second pass's lists have the same order for q and g as the first's for k
/// and v, whose values are needed one way only.
enum Packed { kScoresRight, kProductsRight, kPlainScores, kPlainProducts };

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

void query_block(const Inputs& in, int64_t head, int64_t block, const PackedHeads& heads,
                 const Buffers& b, float* dq) {
  const AttentionShape& s = in.s;
  const int64_t size = s.head_size, stride = s.heads * size, tokens = s.tokens;
  const int64_t kv = head / (s.heads / s.kv_heads);
  const int64_t t0 = block * kBlock, rows = min(kBlock, tokens - t0), key_end = t0 + rows;
  int64_t key = key_end;
  for (int64_t i = 0; i < rows; ++i) key = min(key, first_key(s, t0 + i));
  key = key / kGroup * kGroup;
  const int64_t count = key_end - key, row = row_stride(in);
  pack_left_blocks(head_of(in.grad, s.heads, head, size).rows(t0), rows, size, 1.0f, 0, 1,
                   b.left[1]);
  multiply_strip(Product(rows, count, b.products, row)
                     .add({b.left[1], size}, heads.operand(kProductsRight, kv, key)));
  if (in.probs == nullptr) {
    pack_left_blocks(head_of(in.q, s.heads, head, size).rows(t0), rows, size, s.scale, 0, 1,
                     b.left[0]);
    multiply_strip(Product(rows, count, b.scores, row)
                       .add({b.left[0], size}, heads.operand(kScoresRight, kv, key)));
  }
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t t = t0 + i, lo = first_key(s, t) - key, hi = t + 1 - key;
    const float* probs = b.scores + i * row;
    if (in.probs == nullptr) {
      softmax_row(in, head, t, b.scores + i * row, lo, hi);
    } else {
      probs = in.probs + (head * tokens + t) * tokens + key;
    }
    score_gradient_row(in, head, t, probs, b.products + i * row, lo, hi, count);
  }
  for (int64_t first = 0; first < count; first += kStrip) {
    const int64_t keys = min(kStrip, count - first);
    pack_left_blocks({b.products + first, row, 1}, rows, keys, s.scale, 0, 1, b.packed);
    multiply_strip(Product(rows, size, dq + t0 * stride + head * size, stride, first > 0)
                       .add({b.packed, keys}, heads.operand(kPlainScores, kv, key + first)));
  }
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
               const PackedHeads& heads, const Buffers& b, float* dk, float* dv) {
  const AttentionShape& s = in.s;
  const int64_t size = s.head_size, stride = s.kv_heads * size, tokens = s.tokens;
  const int64_t j0 = block * kBlock, rows = min(kBlock, tokens - j0);
  pack_left_blocks(head_of(in.k, s.kv_heads, kv, size).rows(j0), rows, size, 1.0f, 0, 1, b.left[0]);
  pack_left_blocks(head_of(in.v, s.kv_heads, kv, size).rows(j0), rows, size, 1.0f, 0, 1, b.left[1]);
  const int64_t end = query_end(s, j0 + rows - 1);
  const int64_t out = j0 * stride + kv * size, row = strip_stride(in);
  for (int64_t query = j0 / kGroup * kGroup; query < end; query += kStrip) {
    const int64_t count = min(kStrip, end - query);
    if (in.probs == nullptr) {
      multiply_strip(Product(rows, count, b.scores, row)
                         .add({b.left[0], size}, heads.operand(kScoresRight, head, query)));
    } else {
      transpose(in.probs + (head * tokens + query) * tokens + j0, count, rows, tokens, b.scores,
                row);
    }
    multiply_strip(Product(rows, count, b.products, row)
                       .add({b.left[1], size}, heads.operand(kProductsRight, head, query)));
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t lo = min(max(0, j0 + i - query), count);
      score_gradient_column(in, head, query, j0 + i, lo, count, b.scores + i * row,
                            b.products + i * row);
    }
    pack_left_blocks({b.scores, row, 1}, rows, count, 1.0f, 0, 1, b.packed);
    multiply_strip(Product(rows, size, dv + out, stride, accumulate)
                       .add({b.packed, count}, heads.operand(kPlainProducts, head, query)));
    pack_left_blocks({b.products, row, 1}, rows, count, s.scale, 0, 1, b.packed);
    multiply_strip(Product(rows, size, dk + out, stride, accumulate)
                       .add({b.packed, count}, heads.operand(kPlainScores, head, query)));
    accumulate = true;
  }
}

/// First pass: delta and dq.
void query_pass(const Inputs& in, PackedHeads& heads, float* shared, float* slices, int64_t slice,
                float* dq) {
  for_query_blocks(in.s, heads, shared, [&](int64_t head, int64_t block, int thread) {
    query_block(in, head, block, heads, carve(slices + thread * slice, in), dq);
  });
}

/// Second pass: dk and dv, for some heads at a time, which are a group or more, or part of one. A
/// thread walks its key blocks once for every head of the group.
void key_pass(const Inputs& in, PackedHeads& heads, float* shared, float* slices, int64_t slice,
              float* dk, float* dv) {
  const AttentionShape& s = in.s;
  const int64_t blocks = divide_up(s.tokens, kBlock), group = s.heads / s.kv_heads;
  const int64_t most = heads.at_a_time(s.heads);
  const int64_t step = most < group ? most : most / group * group;
  for (int64_t first = 0, count; first < s.heads; first += count) {
    // No batch reaches over a group it does not begin.
    count = min(step, step < group ? group - first % group : s.heads - first);
    heads.pack(first, count, shared);
    const int64_t kv0 = first / group;
    const auto run = [&](int64_t task, int64_t end, int thread) {
      const Buffers b = carve(slices + thread * slice, in);
      while (task < end) {
        const int64_t kv = kv0 + task / blocks, block0 = task % blocks;
        const int64_t block1 = min(blocks, block0 + end - task);
        const int64_t last = min(first + count, (kv + 1) * group);
        for (int64_t head = max(first, kv * group); head < last; ++head) {
          for (int64_t block = block0; block < block1; ++block) {
            key_block(in, head, kv, block, head > kv * group, heads, b, dk, dv);
          }
        }
        task += block1 - block0;
      }
    };
    parallel_balanced(divide_up(count, group) * blocks, 1, run);
  }
}

void backward(const Inputs& in, float* dq, float* dk, float* dv) {
  Scratch scratch;
  const AttentionShape& s = in.s;
  const int64_t slice = buffer_floats(in);
  PackedHeads keys(s,
                   {{in.k, s.kv_heads, true}, {in.v, s.kv_heads, true}, {in.k, s.kv_heads, false}});
  PackedHeads queries(s, {{in.q, s.heads, true, s.scale},
                          {in.grad, s.heads, true},
                          {in.q, s.heads, false},
                          {in.grad, s.heads, false}});
  float* shared = scratch.floats(max(keys.floats(s.kv_heads), queries.floats(s.heads)));
  float* slices = scratch.floats(slice * threads());
  query_pass(in, keys, shared, slices, slice, dq);
  key_pass(in, queries, shared, slices, slice, dk, dv);
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
