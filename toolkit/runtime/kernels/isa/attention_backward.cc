// Causal grouped-query attention, backward. With P the probabilities, delta[t] = Σ_d g[t,d]
// out[t,d]:
//
//   dP = g vᵀ,  dS = P * (dP - delta),  dq = scale dS k,  dk = scale dSᵀ q,  dv = Pᵀ g
//
// Two passes over strips of scores, both recomputing P = exp(scale q kᵀ - lse) (or reading it where
// it was saved): the first owns query blocks and makes dq, the second owns key blocks and sums dk
// and dv over the heads of its group. Every output element has one owner, so there is nothing to
// reduce between threads.
#include "kernels/isa/attention.h"
#include "kernels/parallel.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

struct Inputs {
  const AttentionShape& s;
  const float* grad;
  const float* q;
  const float* k;
  const float* v;
  const float* lse;    // [H, T], or null when probs is given
  const float* probs;  // [H, T, T] or null
  float* delta;        // [H, T]
  int64_t strip;       // strip length
};

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
         kBlock * (2 * size + 3 * in.strip);
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
  b.products = b.scores + kBlock * in.strip;
  b.packed = b.products + kBlock * in.strip;
  return b;
}

void zero(float* p, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = 0;
}

/// products[i] = P (products[i] - delta) for one query row over keys [lo, hi) of the strip, zero
/// elsewhere.
void score_gradient_row(float* products, const float* scores, int64_t lo, int64_t hi, int64_t count,
                        bool are_probs, float lse, float delta) {
  zero(products, lo);
  for_vectors(lo, hi, [&](int64_t i, int n) {
    const Floats raw = load_part(scores + i, n);
    const Floats p = are_probs ? raw : exp(raw - lse);
    store_part(products + i, p * (load_part(products + i, n) - delta), n);
  });
  zero(products + hi, count - hi);
}

float dot(const float* a, const float* b, int64_t count) {
  Floats total{};
  for_vectors(0, count,
              [&](int64_t i, int n) { total += load_part(a + i, n) * load_part(b + i, n); });
  return sum(total);
}

void query_block(const Inputs& in, int64_t head, int64_t block, const Buffers& b, float* dq) {
  const AttentionShape& s = in.s;
  const int64_t size = s.head_size, stride = s.heads * size, tokens = s.tokens;
  const int64_t t0 = block * kBlock, rows = min(kBlock, tokens - t0), key_end = t0 + rows;
  pack_left_blocks(head_of(in.q, s.heads, head, size).rows(t0), rows, size, s.scale, 0, 1,
                   b.left[0]);
  pack_left_blocks(head_of(in.grad, s.heads, head, size).rows(t0), rows, size, 1.0f, 0, 1,
                   b.left[1]);
  int64_t key_begin = key_end;
  for (int64_t i = 0; i < rows; ++i) key_begin = min(key_begin, first_key(s, t0 + i));
  key_begin = in.probs != nullptr ? 0 : key_begin / kGroup * kGroup;
  for (int64_t key = key_begin; key < key_end; key += in.strip) {
    const int64_t count = min(in.strip, key_end - key);
    if (in.probs == nullptr) {
      multiply_strip(Product(rows, count, b.scores, in.strip)
                         .add({b.left[0], size}, packed_right(b.transposed[0], size, tokens, key)));
    }
    multiply_strip(Product(rows, count, b.products, in.strip)
                       .add({b.left[1], size}, packed_right(b.transposed[1], size, tokens, key)));
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t t = t0 + i, hi = max(0, min(t + 1 - key, count));
      const int64_t lo = min(max(0, first_key(s, t) - key), hi);
      float* delta = in.delta + head * tokens + t;
      float* products = b.products + i * in.strip;
      if (in.probs != nullptr) {
        const float* probs = in.probs + (head * tokens + t) * tokens;
        *delta = dot(probs + lo, products + lo, hi - lo);
        score_gradient_row(products, probs, lo, hi, count, true, 0, *delta);
      } else {
        score_gradient_row(products, b.scores + i * in.strip, lo, hi, count, false,
                           in.lse[head * tokens + t], *delta);
      }
    }
    pack_left_blocks({b.products, in.strip, 1}, rows, count, s.scale, 0, 1, b.packed);
    multiply_strip(Product(rows, size, dq + t0 * stride + head * size, stride, key > key_begin)
                       .add({b.packed, count}, packed_right(b.plain[0], tokens, size, 0, key)));
  }
}

/// For one key over queries [lo, count) of the strip: scores become P, products P (products -
/// delta); zero where the query does not see the key.
void score_gradient_column(float* scores, float* products, const int32_t* start, int64_t key,
                           int64_t lo, int64_t count, bool are_probs, const float* lse,
                           const float* delta) {
  zero(scores, lo);
  zero(products, lo);
  for_vectors(lo, count, [&](int64_t i, int n) {
    Ints first{};
    for (int j = 0; j < n; ++j) first[j] = start[i + j];
    const Ints seen = first <= static_cast<int32_t>(key);
    const Floats raw = load_part(scores + i, n);
    const Floats p = are_probs ? raw : (Floats)(seen & (Ints)exp(raw - load_part(lse + i, n)));
    store_part(scores + i, p, n);
    store_part(products + i, p * (load_part(products + i, n) - load_part(delta + i, n)), n);
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
  pack_left_blocks(head_of(in.k, s.kv_heads, kv, size).rows(j0), rows, size, s.scale, 0, 1,
                   b.left[0]);
  pack_left_blocks(head_of(in.v, s.kv_heads, kv, size).rows(j0), rows, size, 1.0f, 0, 1, b.left[1]);
  const int64_t end = query_end(s, j0 + rows - 1);
  const int64_t out = j0 * stride + kv * size;
  for (int64_t query = j0 / kGroup * kGroup; query < end; query += in.strip) {
    const int64_t count = min(in.strip, end - query);
    const float* lse = in.lse == nullptr ? nullptr : in.lse + head * tokens + query;
    const float* delta = in.delta + head * tokens + query;
    if (in.probs == nullptr) {
      multiply_strip(
          Product(rows, count, b.scores, in.strip)
              .add({b.left[0], size}, packed_right(b.transposed[0], size, tokens, query)));
    } else {
      transpose(in.probs + (head * tokens + query) * tokens + j0, count, rows, tokens, b.scores,
                in.strip);
    }
    multiply_strip(Product(rows, count, b.products, in.strip)
                       .add({b.left[1], size}, packed_right(b.transposed[1], size, tokens, query)));
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t lo = min(max(0, j0 + i - query), count);
      score_gradient_column(b.scores + i * in.strip, b.products + i * in.strip, s.start + query,
                            j0 + i, lo, count, in.probs != nullptr, lse, delta);
    }
    pack_left_blocks({b.scores, in.strip, 1}, rows, count, 1.0f, 0, 1, b.packed);
    multiply_strip(Product(rows, size, dv + out, stride, accumulate)
                       .add({b.packed, count}, packed_right(b.plain[1], tokens, size, 0, query)));
    pack_left_blocks({b.products, in.strip, 1}, rows, count, s.scale, 0, 1, b.packed);
    multiply_strip(Product(rows, size, dk + out, stride, accumulate)
                       .add({b.packed, count}, packed_right(b.plain[0], tokens, size, 0, query)));
    accumulate = true;
  }
}

/// First pass: dq (and, with saved probabilities, delta).
void query_pass(const Inputs& in, const float* cost, float* slices, int64_t slice, float* dq) {
  const AttentionShape& s = in.s;
  const int64_t blocks = divide_up(s.tokens, kBlock), shares = threads();
  const TaskSplit split(cost, blocks, s.heads);
  parallel(shares, [&](int64_t first, int64_t last, int thread) {
    const Buffers b = carve(slices + thread * slice, in);
    int64_t packed_kv = -1;
    for (int64_t task = split.begin(first, shares); task < split.begin(last, shares); ++task) {
      const int64_t head = task / blocks, kv = head / (s.heads / s.kv_heads);
      if (kv != packed_kv) {
        const Head k = head_of(in.k, s.kv_heads, kv, s.head_size);
        pack_head_transposed(k, s.tokens, s.head_size, b.transposed[0]);
        pack_head_plain(k, s.tokens, s.head_size, b.plain[0]);
        pack_head_transposed(head_of(in.v, s.kv_heads, kv, s.head_size), s.tokens, s.head_size,
                             b.transposed[1]);
        packed_kv = kv;
      }
      query_block(in, head, task % blocks, b, dq);
    }
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
                        const float* v, const float* out, const float* lse, float* dq, float* dk,
                        float* dv) {
  Scratch scratch;
  float* delta = scratch.floats(s.heads * s.tokens);
  parallel(s.tokens, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t h = 0; h < s.heads; ++h) {
        const int64_t at = (t * s.heads + h) * s.head_size;
        delta[h * s.tokens + t] = dot(grad + at, out + at, s.head_size);
      }
    }
  });
  backward({s, grad, q, k, v, lse, nullptr, delta, kStrip}, dq, dk, dv);
}

void attention_saved_backward(const AttentionShape& s, const float* grad, const float* q,
                              const float* k, const float* v, const float* probs, float* dq,
                              float* dk, float* dv) {
  Scratch scratch;
  float* delta = scratch.floats(s.heads * s.tokens);
  backward({s, grad, q, k, v, nullptr, probs, delta, round_up(s.tokens, kGroup)}, dq, dk, dv);
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
