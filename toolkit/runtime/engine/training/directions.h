// Random directions in the space of the adapters, drawn by place: what belongs to an element
// follows from the seed, the step, the query and where the element is, so none of it is ever kept.
//
// Element i of a tensor is normal number i of the stream with the seed as its key (low word first)
// and the counter (tensor + 65536 query, layer, step); `tensor` counts the layer's tensors in the
// order of their names. toolkit/replaying/replay.py does the same.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model/adapter.h"

namespace toolkit {

// One direction of a step; steps count from 1, queries from 0.
struct Query {
  int64_t step, number;
};

// What an update by a direction g z does: values = values keep + factor z, B with a factor of its
// own.
struct Change {
  float keep, factor_a, factor_b;
};

class Directions {
 public:
  // The layout is borrowed. `b_alone`: the A of every pair stays as it is.
  Directions(const AdapterLayout& layout, uint64_t seed, bool b_alone);

  bool b_alone() const { return b_alone_; }
  // Has values above these magnitudes stay as they are: one for every tensor of every layer.
  void set_limits(std::vector<std::vector<float>> limits) { limits_ = std::move(limits); }

  // plus, minus = values +- scale z, all of one layer.
  void perturb(int64_t layer, Query query, const float* values, float scale, float* plus,
               float* minus) const;
  void apply(int64_t layer, Query query, Change change, float* values) const;

 private:
  // Calls body(tensor, stream, limit) for every tensor of the layer that is moved.
  template <typename Body>
  void each_tensor(int64_t layer, Query query, Body body) const;
  float limit(int64_t layer, size_t tensor) const;

  const AdapterLayout& layout_;
  const uint64_t seed_;
  const bool b_alone_;
  std::vector<std::vector<uint32_t>> numbers_;  // of the tensors of every kind
  std::vector<std::vector<float>> limits_;      // of every layer's tensors; empty: none
};

}  // namespace toolkit
