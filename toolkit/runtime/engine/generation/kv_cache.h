// Keys and values of the tokens that a reply follows, float32 [capacity, K * head size] for every
// layer. Addresses are there for all of the capacity, memory for the rows that were written.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/memory/memory.h"

namespace toolkit {

class KvCache {
 public:
  // `widths`: K * head size of every layer.
  KvCache(const std::vector<int64_t>& widths, int64_t capacity);

  int64_t capacity() const { return capacity_; }
  float* keys(int64_t layer) const { return at(2 * layer); }
  float* values(int64_t layer) const { return at(2 * layer + 1); }
  // How many rows are in use: tells the ledger, and gives back the pages of those beyond.
  void keep(int64_t rows);
  size_t bytes() const { return size_t(rows_) * row_bytes_; }

 private:
  float* at(int64_t table) const {
    return reinterpret_cast<float*>(static_cast<char*>(buffer_.data()) + begins_[table]);
  }

  int64_t capacity_, rows_ = 0;
  size_t row_bytes_ = 0;         // of all layers
  std::vector<size_t> begins_;   // of every table and the end, whole pages
  std::vector<size_t> strides_;  // bytes of a table's row
  Buffer buffer_;
};

}  // namespace toolkit
