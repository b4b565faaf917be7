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
  // Has up to `rows` of them at a time. The data is borrowed and must outlive this object.
  Batch(const Dataset& data, int64_t sequences, int64_t rows = 1);

  int64_t sequences() const { return sequences_; }
  // The row of `samples` [sequences], valid until another is asked for in its place.
  Frame frame(const int64_t* samples, size_t place = 0);

 private:
  struct Row {
    std::vector<int32_t> values;   // [4, sequences * T]
    std::vector<int64_t> samples;  // in them
  };
  void fill(const int64_t* samples, Row* row) const;

  const Dataset& data_;
  int64_t sequences_;
  std::vector<Row> rows_;
};

}  // namespace toolkit
