// Causal grouped-query attention, backward. With P the probabilities:
//
//   dP = g vᵀ,  dS = P * ((dP - pivot) - delta),  delta = Σ_j P (dP - pivot) / Σ_j P
//   dq = scale dS k,  dk = scale dSᵀ q,  dv = Pᵀ g
//
// P is recomputed from S = scale q kᵀ, or read where it was saved. For kChunk queries of a head at
// a time P and dS exist as whole rows: one parallel region owns query blocks and makes them and dq,
// the next owns key blocks and adds what these queries give to dk and dv. So each of the five
// products is made once. Every output element has one owner at a time and is summed chunk by chunk,
// in a chunk head by head, so the bits are the same for every number of threads.
//
// The pivot, dP at the row's most probable key, changes nothing but the rounding: where a row looks
// at one key (an attention sink), dP - Σ P dP is a small difference of large terms, and with
// Σ_d g[t,d] out[t,d] for the sum it would be noise.
//
// Threads share the packed keys and values of some kv-heads. Scratch, in floats, with `size` the
// head's:
//
//   3 T size x kv-heads packed at a time (one, or more within Tiles::shared)
//   + heads in work x kChunk (2 T + 2 size) + threads x block (size + strip)
//
// with 2 T size and T + 2 size where P was saved, and with so many heads in work that threads meet
// rarely, but few enough to stay below kRowBytes where one does.
#include "kernels/attention_backward.h"

namespace toolkit {
namespace {

constexpr int64_t kChunk = 96;          // queries; a multiple of every block
constexpr int64_t kRowBytes = 2 << 20;  // of P and dS

/// What is packed of keys and values, which are needed one way only.
enum Packed { kProductsRight, kPlainScores, kScoresRight };

PackedHeads packed_keys(const Kernels& k, const AttentionShape& s, const float* keys,
                        const float* values, bool scores) {
  const Packing products = {values, s.kv_heads, true}, plain = {keys, s.kv_heads, false};
  if (!scores) return {k, s, {products, plain}};
  return {k, s, {products, plain, {keys, s.kv_heads, true}}};
}

/// Rows [at, at + rows) of a head as those of a right operand [depth, size].
void pack_plain(const Kernels& k, const View& view, int64_t rows, int64_t depth, int64_t size,
                int64_t at, void* out) {
  const RightPart part{depth, size, 0, size, at, rows};
  k.float32.pack_right(plain_right(view.data, view.row_stride), part, 1.0f, out);
}

}  // namespace

AttentionBackward::AttentionBackward(const Kernels& k, const AttentionShape& s, const float* grad,
                                     const float* q, const float* keys, const float* values,
                                     const float* probs)
    : k_(k),
      s_(s),
      grad_(grad),
      q_(q),
      probs_(probs),
      packed_keys_(packed_keys(k, s, keys, values, probs == nullptr)),
      chunk_(min(kChunk, round_up(s.tokens, k.tiles.block))),
      // Rows that lie apart by a power of two would share few lines of the cache.
      row_stride_(round_up(s.tokens, k.tiles.group) + kPanel),
      lanes_(max(1, min(s.heads, kRowBytes / (2 * chunk_ * row_stride_ * 4)))),
      lane_floats_((probs == nullptr ? 2 : 1) * chunk_ * row_stride_),
      slices_(k) {
  left_ = slices_.left(s.head_size);
  packed_ = slices_.left(max(chunk_, min(k.tiles.strip, s.tokens)));
}

void AttentionBackward::run(float* dq, float* dk, float* dv) {
  dq_ = dq;
  dk_ = dk;
  dv_ = dv;
  Scratch scratch;
  void* shared = scratch.bytes(packed_keys_.bytes(s_.kv_heads));
  rows_ = scratch.floats(lanes_ * lane_floats_);
  operands_ = static_cast<char*>(
      scratch.bytes(lanes_ * 2 * k_.float32.right_bytes(k_.tiles, chunk_, s_.head_size)));
  slices_.allocate(scratch);
  const int64_t group = s_.heads / s_.kv_heads, step = packed_keys_.at_a_time(s_.kv_heads);
  for (int64_t kv = 0; kv < s_.kv_heads; kv += step) {
    const int64_t end = min(s_.kv_heads, kv + step) * group;
    packed_keys_.pack(kv, end / group - kv, shared);
    for (int64_t first = 0; first < s_.tokens; first += chunk_) {
      const Chunk chunk = chunk_from(first);
      for (int64_t head = kv * group; head < end; head += lanes_) {
        heads_of_chunk(chunk, head, min(lanes_, end - head));
      }
    }
  }
}

AttentionBackward::Chunk AttentionBackward::chunk_from(int64_t first) const {
  const int64_t block = k_.tiles.block;
  Chunk chunk{first, min(s_.tokens, first + chunk_), first};
  for (int64_t i = first / block; i * block < chunk.end; ++i) {
    chunk.key = min(chunk.key, first_key_of(k_, s_, RowBlock(k_, s_, i)) / block * block);
  }
  return chunk;
}

AttentionBackward::Lane AttentionBackward::lane_of(int64_t head, int64_t lane,
                                                   const Chunk& chunk) const {
  const int64_t bytes = k_.float32.right_bytes(k_.tiles, chunk_, s_.head_size);
  float* rows = rows_ + lane * lane_floats_;
  char* operands = operands_ + lane * 2 * bytes;
  if (probs_ != nullptr) {
    const Rows saved{probs_ + head * s_.tokens * s_.tokens, 0, 0, s_.tokens};
    return {saved, nullptr, rows, operands, operands + bytes};
  }
  const Rows room{rows, chunk.first, chunk.key, row_stride_};
  return {room, rows, rows + chunk_ * row_stride_, operands, operands + bytes};
}

/// `count` heads from `first` on, of kv-heads that are packed.
void AttentionBackward::heads_of_chunk(const Chunk& chunk, int64_t first, int64_t count) {
  const int64_t block = k_.tiles.block, group = s_.heads / s_.kv_heads;
  const int64_t queries = divide_up(chunk.end - chunk.first, block);
  parallel_balanced(count * queries, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t lane = task / queries, head = first + lane;
      query_block(head, lane_of(head, lane, chunk), chunk, chunk.first / block + task % queries,
                  thread);
    }
  });
  const int64_t kv0 = first / group, kvs = (first + count - 1) / group + 1 - kv0;
  const int64_t keys = divide_up(chunk.end - chunk.key, block);
  parallel_balanced(kvs * keys, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t kv = kv0 + task / keys;
      for (int64_t head = max(first, kv * group); head < min(first + count, (kv + 1) * group);
           ++head) {
        key_block(head, lane_of(head, head - first, chunk), chunk, chunk.key / block + task % keys,
                  thread);
      }
    }
  });
}

void AttentionBackward::compute_probabilities(int64_t head, const RowBlock& queries, int64_t key,
                                              int64_t count, float* rows, void* left) const {
  const int64_t size = s_.head_size, kv = head / (s_.heads / s_.kv_heads);
  const View view = HeadOf(q_, s_.heads, head, size).rows(queries.first);
  k_.float32.pack_left(view, queries.rows, size, s_.scale, 0, 1, left);
  Product scores(k_.float32, queries.rows, count, rows, row_stride_);
  multiply_strip(k_, scores.add({left, size}, packed_keys_.operand(kScoresRight, kv, key)));
  for (int64_t i = 0; i < queries.rows; ++i) {
    const int64_t t = queries.first + i;
    k_.rows.masked_softmax(rows + i * row_stride_, first_key(s_, t) - key, t + 1 - key, count);
  }
}

/// P, dS and dq of a block of queries.
void AttentionBackward::query_block(int64_t head, const Lane& lane, const Chunk& chunk,
                                    int64_t block, int thread) {
  const int64_t size = s_.head_size, kv = head / (s_.heads / s_.kv_heads);
  const RowBlock queries(k_, s_, block);
  const int64_t key = first_key_of(k_, s_, queries), count = queries.end() - key;
  const int64_t before = key - chunk.key;  // keys that other queries of the chunk see
  const int64_t row = (queries.first - chunk.first) * row_stride_;
  for (int64_t i = 0; i < queries.rows; ++i) {
    if (lane.room != nullptr) k_.rows.zero(lane.room + row + i * row_stride_, before);
    k_.rows.zero(lane.products + row + i * row_stride_, before);
  }
  const View grad = HeadOf(grad_, s_.heads, head, size).rows(queries.first);
  const View q = HeadOf(q_, s_.heads, head, size).rows(queries.first);
  pack_plain(k_, q, queries.rows, chunk_, size, queries.first - chunk.first, lane.q);
  pack_plain(k_, grad, queries.rows, chunk_, size, queries.first - chunk.first, lane.grad);
  float* const made = lane.products + row + before;
  void* const left = slices_.of(thread) + left_;
  k_.float32.pack_left(grad, queries.rows, size, 1.0f, 0, 1, left);
  Product products(k_.float32, queries.rows, count, made, row_stride_);
  multiply_strip(k_, products.add({left, size}, packed_keys_.operand(kProductsRight, kv, key)));
  if (lane.room != nullptr) {
    compute_probabilities(head, queries, key, count, lane.room + row + before, left);
  }
  for (int64_t i = 0; i < queries.rows; ++i) {
    const int64_t t = queries.first + i;
    k_.rows.query_gradient(lane.probs.at(t, key), first_key(s_, t) - key, t + 1 - key, count,
                           made + i * row_stride_);
  }
  add_dq(head, queries, key, made, thread);
}

/// dq of a block of queries from its rows of dS, whose first key is `key`.
void AttentionBackward::add_dq(int64_t head, const RowBlock& queries, int64_t key,
                               const float* products, int thread) {
  const int64_t size = s_.head_size, stride = s_.heads * size, count = queries.end() - key;
  const int64_t kv = head / (s_.heads / s_.kv_heads);
  void* const packed = slices_.of(thread) + packed_;
  for (int64_t first = 0; first < count; first += k_.tiles.strip) {
    const int64_t keys = min(k_.tiles.strip, count - first);
    k_.float32.pack_left({products + first, row_stride_, 1}, queries.rows, keys, s_.scale, 0, 1,
                         packed);
    Product out(k_.float32, queries.rows, size, dq_ + queries.first * stride + head * size, stride,
                first > 0);
    out.add({packed, keys}, packed_keys_.operand(kPlainScores, kv, key + first));
    multiply_strip(k_, out);
  }
}

/// What the chunk's queries of one head give to dk and dv of a block of keys.
void AttentionBackward::key_block(int64_t head, const Lane& lane, const Chunk& chunk, int64_t block,
                                  int thread) {
  const int64_t size = s_.head_size, group = s_.heads / s_.kv_heads, stride = s_.kv_heads * size;
  const RowBlock keys(k_, s_, block);
  const int64_t query = max(chunk.first, keys.first), count = chunk.end - query;
  const int64_t out = keys.first * stride + head / group * size;
  const bool accumulate = keys.first < chunk.first || head % group > 0;
  void* const packed = slices_.of(thread) + packed_;
  const auto add_to = [&](float* sums, const float* rows, int64_t row, float scale, void* with) {
    k_.float32.pack_left({rows, 1, row}, keys.rows, count, scale, 0, 1, packed);
    Right right;
    right.kind = Right::kPacked;
    right.packed = with;
    right.stride = chunk_;
    right.columns = size;
    right.depth0 = query - chunk.first;
    Product product(k_.float32, keys.rows, size, sums + out, stride, accumulate);
    multiply_strip(k_, product.add({packed, count}, right));
  };
  const float* products =
      lane.products + (query - chunk.first) * row_stride_ + keys.first - chunk.key;
  add_to(dv_, lane.probs.at(query, keys.first), lane.probs.stride, 1.0f, lane.grad);
  add_to(dk_, products, row_stride_, s_.scale, lane.q);
}

void Kernels::attention_backward(const AttentionShape& s, const float* grad, const float* q,
                                 const float* keys, const float* values, float* dq, float* dk,
                                 float* dv) const {
  AttentionBackward(*this, s, grad, q, keys, values, nullptr).run(dq, dk, dv);
}

}  // namespace toolkit
