// Sequences that are computed together.
#pragma once

#include <vector>

#include "engine/model/dataset.h"
#include "engine/model/network.h"

namespace toolkit {

// Makes one row of so many sequences, one after the other: programs for as many tokens as these
// have in all compute it, with the weights unpacked once. `start` keeps the sequences apart, and
// positions are each one's own.
class Batch {
 public:
  // The data is borrowed and must outlive this object.
  Batch(const Dataset& data, int64_t sequences);

  int64_t sequences() const { return sequences_; }
  // The row of `samples` [sequences], valid until another is asked for.
  Frame frame(const int64_t* samples);

 private:
  void fill(const int64_t* samples);

  const Dataset& data_;
  int64_t sequences_;
  std::vector<int32_t> rows_;     // [4, sequences * T], for several sequences
  std::vector<int64_t> samples_;  // in them
};

}  // namespace toolkit
