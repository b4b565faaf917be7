// Holds frozen weights against their checksums, each once, as the first pass comes to them.
#pragma once

#include <string>
#include <vector>

#include "engine/files/flat_tensor.h"
#include "engine/memory/prefetcher.h"

namespace toolkit {

// Checking all weights before the start would read the file once more and take its time; a tensor
// that is checked just before it is used is in the page cache afterwards, where the kernels find
// it. It is read, not mapped: it becomes resident in a small buffer only.
class WeightChecks {
 public:
  explicit WeightChecks(const FlatTensorFile& base);

  // Reads those of `refs` that were not checked before and returns how many bytes these are. Throws
  // Error naming the first damaged one.
  int64_t check(const std::vector<WeightRef>& refs);

 private:
  struct Entry {
    int64_t offset, bytes;
    uint32_t crc32;
    bool checked;
  };
  [[noreturn]] void fail_damaged(const Entry& entry) const;

  // Opened once more: the kernel's idea of how this file is read belongs to whom reads ahead.
  File file_;
  std::vector<Entry> entries_;  // by offset
  size_t left_;                 // to be checked
};

}  // namespace toolkit
