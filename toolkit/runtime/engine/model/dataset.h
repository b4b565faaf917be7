// Token data: train.ptd or validation.ptd with int32 tensors tokens, labels, positions, start [S,
// T].
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/files/flat_tensor.h"
#include "engine/model/bundle.h"

namespace toolkit {

// Holds one sample at a time. Mapped, rows here and there of a file whose page cache is made of
// huge folios would make megabytes resident.
class Dataset {
 public:
  // Checks the file against its checksums, its tokenizer against the bundle's, and every number in
  // it: tokens and labels against the vocabulary, starts against their rows. Throws Error, as all
  // that reads a sample does.
  Dataset(const std::string& path, const Bundle& bundle);

  int64_t samples() const { return samples_; }
  int64_t seq_len() const { return seq_len_; }
  const std::string& path() const { return file_.path(); }
  const Sha256& sha256() const { return sha256_; }             // of the content
  const std::string& tokenizer() const { return tokenizer_; }  // its name, empty if there is none
  // Rows of a sample [T], valid until another sample is asked for.
  const int32_t* tokens(int64_t sample) const { return row(0, sample); }
  const int32_t* labels(int64_t sample) const { return row(1, sample); }
  const int32_t* positions(int64_t sample) const { return row(2, sample); }
  const int32_t* start(int64_t sample) const { return row(3, sample); }
  // Number of labels that are not -100.
  int64_t labelled(int64_t sample) const;

 private:
  const int32_t* row(int tensor, int64_t sample) const;
  void check_row(int64_t sample, int64_t vocab_size);

  File file_;
  Sha256 sha256_;
  std::string tokenizer_;
  int64_t offsets_[4] = {};
  int64_t samples_ = 0, seq_len_ = 0;
  mutable std::vector<int32_t> rows_;  // [4, T]
  mutable int64_t held_ = -1;          // the sample in them
};

}  // namespace toolkit
