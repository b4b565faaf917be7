// Token data: train.ptd or validation.ptd with int32 tensors tokens, labels, positions, start [S,
// T].
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/flat_tensor.h"

namespace toolkit {

class Dataset {
 public:
  // Maps the file and checks every number in it: tokens and labels against the vocabulary, starts
  // against their rows. Throws Error.
  Dataset(const std::string& path, int64_t vocab_size);
  ~Dataset();
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;

  int64_t samples() const { return samples_; }
  int64_t seq_len() const { return seq_len_; }
  const std::string& path() const { return path_; }
  const int32_t* tokens(int64_t sample) const { return row(0, sample); }
  const int32_t* labels(int64_t sample) const { return row(1, sample); }
  const int32_t* positions(int64_t sample) const { return row(2, sample); }
  const int32_t* start(int64_t sample) const { return row(3, sample); }
  // Number of labels that are not -100.
  int64_t labelled(int64_t sample) const;
  int64_t labelled_total() const { return labelled_total_; }
  // Lets the pages read so far go.
  void drop_pages() const;

 private:
  const int32_t* row(int tensor, int64_t sample) const {
    return tensors_[tensor] + sample * seq_len_;
  }
  void check_row(int64_t sample, int64_t vocab_size);

  std::string path_;
  void* address_ = nullptr;
  size_t bytes_ = 0;
  const int32_t* tensors_[4] = {};
  int64_t samples_ = 0, seq_len_ = 0, labelled_total_ = 0;
};

}  // namespace toolkit
