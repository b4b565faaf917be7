// The backward of attention, with P recomputed or saved.
#pragma once

#include "kernels/attention.h"

namespace toolkit {

class AttentionBackward {
 public:
  /// probs: P [H, T, T]; null where it is recomputed.
  AttentionBackward(const Kernels& k, const AttentionShape& s, const float* grad, const float* q,
                    const float* keys, const float* values, const float* probs);

  void run(float* dq, float* dk, float* dv);

 private:
  /// Rows of floats, the first of them query `first`'s from key `key` on.
  struct Rows {
    const float* data;
    int64_t first, key, stride;

    const float* at(int64_t query, int64_t from) const {
      return data + (query - first) * stride + from - key;
    }
  };

  /// Queries that are worked on at a time, and the keys from the first that one of them sees on,
  /// whole blocks of both.
  struct Chunk {
    int64_t first, end, key;
  };
  /// What there is of a head for the queries of a chunk: P, the room for it (null where it was
  /// saved), dS, and their q and g as right operands.
  struct Lane {
    Rows probs;
    float *room, *products;
    void *q, *grad;
  };

  Chunk chunk_from(int64_t first) const;
  Lane lane_of(int64_t head, int64_t lane, const Chunk& chunk) const;
  void heads_of_chunk(const Chunk& chunk, int64_t first, int64_t count);
  /// Makes P of a block of queries over `count` keys from `key` on, in rows of the room, with room
  /// for a packed row block in `left`.
  void compute_probabilities(int64_t head, const RowBlock& queries, int64_t key, int64_t count,
                             float* rows, void* left) const;
  void query_block(int64_t head, const Lane& lane, const Chunk& chunk, int64_t block, int thread);
  void add_dq(int64_t head, const RowBlock& queries, int64_t key, const float* products,
              int thread);
  void key_block(int64_t head, const Lane& lane, const Chunk& chunk, int64_t block, int thread);

  const Kernels& k_;
  const AttentionShape& s_;
  const float *grad_, *q_, *probs_;
  float *dq_ = nullptr, *dk_ = nullptr, *dv_ = nullptr;
  PackedHeads packed_keys_;
  const int64_t chunk_, row_stride_, lanes_, lane_floats_;
  ThreadScratch slices_;
  int64_t left_, packed_;     // where in a slice
  float* rows_ = nullptr;     // [lanes, P unless it was saved and dS, chunk, row_stride]
  char* operands_ = nullptr;  // [lanes, q and g]
};

}  // namespace toolkit
