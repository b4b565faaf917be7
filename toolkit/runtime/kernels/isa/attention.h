// Pieces the forward and the backward of attention share.
#pragma once

#include <initializer_list>

#include "kernels/isa/gemm.h"
#include "kernels/parallel.h"
#include "kernels/workspace.h"

namespace toolkit {
namespace TOOLKIT_ISA {

/// Keys (or queries) handled at a time: the strip of scores [kBlock, kStrip] stays in L1 and L2.
constexpr int64_t kStrip = 512;

/// One head of a [tokens, heads, head_size] tensor.
struct Head {
  const float* data;
  int64_t stride;
  View rows(int64_t first) const { return {data + first * stride, stride, 1}; }
};

inline Head head_of(const float* tensor, int64_t heads, int64_t head, int64_t size) {
  return {tensor + head * size, heads * size};
}

/// First key row t attends to, within [0, t].
inline int64_t first_key(const AttentionShape& s, int64_t t) { return max(0, min(s.start[t], t)); }

/// How heads of a tensor [tokens, heads, head_size] are packed: as right operands [size, tokens]
/// or, plain, [tokens, size].
struct Packing {
  const float* tensor;
  int64_t heads;
  bool transposed;
  float scale = 1.0f;
};

/// Right operands that all threads share: up to four packings of some successive heads, so many
/// at a time that threads rarely meet, but few enough to stay below kSharedFloats
/// where one head does.
class PackedHeads {
 public:
  PackedHeads(const AttentionShape& s, std::initializer_list<Packing> packings)
      : tokens_(s.tokens), size_(s.head_size) {
    for (const Packing& packing : packings) packings_[count_++] = packing;
  }

  /// Heads packed at a time, out of `heads`.
  int64_t at_a_time(int64_t heads) const {
    return max(1, min(heads, kSharedFloats / head_floats()));
  }
  int64_t floats(int64_t heads) const { return at_a_time(heads) * head_floats(); }

  /// Packs heads [first, first + heads) into memory of floats(heads), in parallel.
  void pack(int64_t first, int64_t heads, float* memory);

  /// A packed operand from a token on; `which` is the packing's place in the list.
  Right operand(int which, int64_t head, int64_t token) const {
    const float* data = at(which, head);
    return packings_[which].transposed ? packed_right(data, size_, tokens_, token)
                                       : packed_right(data, tokens_, size_, 0, token);
  }

 private:
  static constexpr int64_t kSharedFloats = 128 << 10;
  static constexpr int64_t kSlice = 64;  // tokens; a multiple of kGroup

  int64_t slot() const { return max(right_floats(size_, tokens_), right_floats(tokens_, size_)); }
  int64_t head_floats() const { return count_ * slot(); }
  float* at(int which, int64_t head) const {
    return memory_ + ((head - first_) * count_ + which) * slot();
  }
  void pack_slice(const Packing& packing, int64_t head, int64_t token, float* out) const;

  int64_t tokens_, size_;
  Packing packings_[4];
  int count_ = 0;
  int64_t first_ = 0;
  float* memory_ = nullptr;
};

/// Runs a product of one row block on the calling thread; its right operands are packed.
inline void multiply_strip(const Product& product) {
  for (int64_t group = 0; group < product.groups(); ++group) {
    multiply_group(product, group, 0, product.blocks(), nullptr);
  }
}

/// Calls run(head, query block, thread) for all of them in parallel, with their kv-heads packed
/// into `shared`.
template <typename Run>
void for_query_blocks(const AttentionShape& s, PackedHeads& packed, float* shared, Run run) {
  const int64_t blocks = divide_up(s.tokens, kBlock), group = s.heads / s.kv_heads;
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

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
