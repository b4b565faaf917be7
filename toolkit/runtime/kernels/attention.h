// Pieces the forward and the backward of attention share, and what the variants with saved
// probabilities (attention_saved.cc) share with them.
#pragma once

#include <functional>
#include <initializer_list>

#include "kernels/multiply.h"
#include "kernels/parallel.h"

namespace toolkit {

/// One head of a [tokens, heads, head_size] tensor.
struct HeadOf {
  const float* data;
  int64_t stride;

  HeadOf(const float* tensor, int64_t heads, int64_t head, int64_t size)
      : data(tensor + head * size), stride(heads * size) {}
  View rows(int64_t first) const { return {data + first * stride, stride, 1}; }
};

/// First key row t attends to, up to its own.
inline int64_t first_key(const AttentionShape& s, int64_t t) {
  return max(0, min(s.start[t], s.past + t));
}

/// A block of rows [first, first + rows) of the queries, or of the keys.
struct RowBlock {
  int64_t first, rows;

  RowBlock(const Kernels& k, const AttentionShape& s, int64_t block)
      : first(block * k.tiles.block), rows(min(k.tiles.block, s.tokens - first)) {}
  int64_t end() const { return first + rows; }
};

/// The first key that queries of the block attend to, at the begin of a group.
int64_t first_key_of(const Kernels& k, const AttentionShape& s, const RowBlock& queries);

/// How heads of a tensor [tokens, heads, head_size] are packed: as right operands [size, tokens]
/// or, plain, [tokens, size].
struct Packing {
  const float* tensor;
  int64_t heads;
  bool transposed;
};

/// Right operands that all threads share: up to four packings of some successive heads, so many
/// at a time that threads rarely meet, but few enough to stay below Tiles::shared where one head
/// does.
class PackedHeads {
 public:
  PackedHeads(const Kernels& k, const AttentionShape& s, std::initializer_list<Packing> packings)
      : k_(k), tokens_(s.keys()), size_(s.head_size) {
    for (const Packing& packing : packings) packings_[count_++] = packing;
  }

  /// Heads packed at a time, out of `heads`.
  int64_t at_a_time(int64_t heads) const {
    return max(1, min(heads, k_.tiles.shared / head_bytes()));
  }
  int64_t bytes(int64_t heads) const { return at_a_time(heads) * head_bytes(); }

  /// Packs heads [first, first + heads) into memory of bytes(heads), in parallel.
  void pack(int64_t first, int64_t heads, void* memory);

  /// A packed operand from a token on; `which` is the packing's place in the list.
  Right operand(int which, int64_t head, int64_t token) const;

 private:
  static constexpr int64_t kSlice = 64;  // tokens; a multiple of every group

  int64_t slot() const {
    return max(k_.float32.right_bytes(k_.tiles, size_, tokens_),
               k_.float32.right_bytes(k_.tiles, tokens_, size_));
  }
  int64_t head_bytes() const { return count_ * slot(); }
  char* at(int which, int64_t head) const {
    return memory_ + ((head - first_) * count_ + which) * slot();
  }
  void pack_slice(const Packing& packing, int64_t head, int64_t token, void* out) const;

  const Kernels& k_;
  int64_t tokens_, size_;
  Packing packings_[4];
  int count_ = 0;
  int64_t first_ = 0;
  char* memory_ = nullptr;
};

/// One slice of scratch a thread, in which rooms follow each other.
class ThreadScratch {
 public:
  explicit ThreadScratch(const Kernels& k) : k_(k) {}

  /// Where in a slice there is room for a packed left operand of a row block.
  int64_t left(int64_t depth) {
    return room(k_.float32.left_bytes(k_.tiles, k_.tiles.block, depth));
  }
  /// The same for rows of floats of a block.
  int64_t rows(int64_t stride) { return room(k_.tiles.block * stride * sizeof(float)); }

  void allocate(Scratch& scratch) {
    bytes_ = round_up(bytes_, 64);
    memory_ = static_cast<char*>(scratch.bytes(bytes_ * threads()));
  }
  char* of(int thread) const { return memory_ + thread * bytes_; }

 private:
  int64_t room(int64_t bytes) {
    const int64_t at = bytes_;
    bytes_ += bytes;
    return at;
  }

  const Kernels& k_;
  int64_t bytes_ = 0;
  char* memory_ = nullptr;
};

/// A product of one row block on the calling thread; its right operands are packed.
void multiply_strip(const Kernels& k, const Product& product);

/// Calls run(head, query block, thread) for all of them in parallel, with their kv-heads packed
/// into `shared`.
template <typename Run>
void for_query_blocks(const Kernels& k, const AttentionShape& s, PackedHeads& packed, void* shared,
                      Run run) {
  const int64_t blocks = divide_up(s.tokens, k.tiles.block), group = s.heads / s.kv_heads;
  const int64_t step = packed.at_a_time(s.kv_heads);
  for (int64_t kv = 0; kv < s.kv_heads; kv += step) {
    const int64_t count = min(step, s.kv_heads - kv);
    packed.pack(kv, count, shared);
    parallel_balanced(count * group * blocks, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t task = begin; task < end; ++task) {
        run(kv * group + task / blocks, task % blocks, thread);
      }
    });
  }
}

/// A block of queries of one head in the forward, with the scratch of the thread that does it.
struct ForwardTask {
  int64_t head, kv_head;
  RowBlock queries;
  const PackedHeads& heads;  // kKeys, kValues
  void* query;               // packed row block
  float* scores;             // a strip of rows, `stride` apart
  int64_t stride;
  void* packed;  // the strip as a left operand

  enum Packed { kKeys, kValues };
};

/// Calls run(task) for all of them in parallel.
void for_forward_tasks(const Kernels& k, const AttentionShape& s, const float* keys,
                       const float* values, const std::function<void(const ForwardTask&)>& run);

}  // namespace toolkit
