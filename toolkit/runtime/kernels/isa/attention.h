// Pieces the forward and the backward of attention share.
#pragma once

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

/// Packs a whole head [tokens, size] as the right operand [size, tokens] or, plain, [tokens, size].
inline void pack_head_transposed(const Head& head, int64_t tokens, int64_t size, float* out) {
  pack_right_groups(transposed(head.data, head.stride), size, tokens, 0, divide_up(tokens, kGroup),
                    out);
}
inline void pack_head_plain(const Head& head, int64_t tokens, int64_t size, float* out) {
  pack_right_groups(plain_right(head.data, head.stride), tokens, size, 0, divide_up(size, kGroup),
                    out);
}

/// Runs a product of one row block on the calling thread; its right operands are packed.
inline void multiply_strip(const Product& product) {
  for (int64_t group = 0; group < product.groups(); ++group) {
    multiply_group(product, group, 0, product.blocks(), nullptr);
  }
}

/// Tasks (head, row block) ordered by head, split among threads by their cost.
class TaskSplit {
 public:
  /// cost[b]: relative cost of row block b, the same for all heads.
  TaskSplit(const float* cost, int64_t blocks, int64_t heads) : cost_(cost), blocks_(blocks) {
    for (int64_t b = 0; b < blocks; ++b) head_cost_ += cost[b];
    total_ = head_cost_ * heads;
    tasks_ = heads * blocks;
  }

  /// First task of share `index` of `count`.
  int64_t begin(int64_t index, int64_t count) const {
    if (index <= 0) return 0;
    if (index >= count) return tasks_;
    double rest = total_ * index / count;
    const int64_t head = static_cast<int64_t>(rest / head_cost_);
    rest -= head * head_cost_;
    int64_t block = 0;
    while (block < blocks_ && rest >= cost_[block]) rest -= cost_[block++];
    return min(head * blocks_ + block, tasks_);
  }

 private:
  const float* cost_;
  int64_t blocks_;
  int64_t tasks_ = 0;
  double head_cost_ = 0;
  double total_ = 0;
};

/// cost[b] of the query blocks: keys their rows look at.
void query_costs(const AttentionShape& s, float* cost);

/// Calls run(head, query block, thread) for all of them in parallel, and pack(kv-head, thread)
/// before a thread goes on to another kv-head. cost: see TaskSplit.
template <typename Pack, typename Run>
void for_query_blocks(const AttentionShape& s, const float* cost, Pack pack, Run run) {
  // Shares of the tasks a thread has in advance; others take over what it has not begun.
  constexpr int64_t kShares = 4;
  const int64_t blocks = divide_up(s.tokens, kBlock), shares = kShares * threads();
  const TaskSplit split(cost, blocks, s.heads);
  Scratch scratch;
  int64_t* packed = reinterpret_cast<int64_t*>(scratch.floats(2 * threads()));
  for (int i = 0; i < threads(); ++i) packed[i] = -1;
  parallel_balanced(shares, 1, [&](int64_t first, int64_t last, int thread) {
    const int64_t end = split.begin(last, shares);
    for (int64_t task = split.begin(first, shares); task < end; ++task) {
      const int64_t head = task / blocks, kv = head / (s.heads / s.kv_heads);
      if (kv != packed[thread]) pack(kv, thread);
      packed[thread] = kv;
      run(head, task % blocks, thread);
    }
  });
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
