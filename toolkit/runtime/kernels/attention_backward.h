// The backward of attention, for its two variants.
#pragma once

#include "kernels/attention.h"

namespace toolkit {

/// With P recomputed; a subclass may have it.
class AttentionBackward {
 public:
  AttentionBackward(const Kernels& k, const AttentionShape& s, const float* grad, const float* q,
                    const float* keys, const float* values);
  virtual ~AttentionBackward() = default;

  void run(float* dq, float* dk, float* dv);

 protected:
  /// What a thread works with: two packed row blocks, rows of S and dP, and a packed strip.
  struct Buffers {
    void* left[2];
    float* scores;
    float* products;
    void* packed;
  };
  /// Rows of floats.
  struct Rows {
    const float* first;
    int64_t stride;
  };

  /// P of a block of queries over `count` keys from `key` on, each within its own keys.
  virtual Rows probabilities(int64_t head, const RowBlock& queries, int64_t key, int64_t count,
                             const Buffers& b);
  /// Rows of `count` queries, from `query` on, for a block of keys, `stride` apart in b.scores: S,
  /// or P itself where that `is_saved`.
  virtual void scores_of_keys(int64_t head, const RowBlock& keys, int64_t query, int64_t count,
                              int64_t stride, const Buffers& b);
  virtual bool is_saved() const { return false; }

  const Kernels& k_;
  const AttentionShape& s_;

 private:
  Buffers buffers_of(int thread) const;
  QueryStates states_of(int64_t head) const;
  void query_pass(void* shared, float* dq);
  void query_block(int64_t head, int64_t block, const Buffers& b, float* dq);
  void key_pass(void* shared, float* dk, float* dv);
  void key_block(int64_t head, int64_t kv, int64_t block, const Buffers& b, float* dk, float* dv);

  const float* grad_;
  const float* q_;
  const float* keys_;
  const float* values_;
  PackedHeads packed_keys_, packed_queries_;
  int64_t row_stride_, strip_stride_;
  ThreadScratch slices_;
  int64_t left_[2], scores_, products_, packed_;  // where in a slice
  float* states_ = nullptr;
};

}  // namespace toolkit
