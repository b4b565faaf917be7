// Frozen weights: mapped for one method run, dropped from memory as they are used.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/prefetcher.h"

namespace toolkit {

// How a mapping is read: in full, or a few rows here and there, of which only those are wanted.
enum class Access { whole, rows };

// Maps the tensors of one method run. Neighbours in the file share one mapping.
// While mapped, kernels::release() gives consumed pages back (they are clean file pages, so a page
// needed again is simply read again).
class WeightMapping {
 public:
  // `reader`, unless null, is told what was used. Throws Error.
  WeightMapping(const File& file, const std::vector<WeightRef>& refs, Prefetcher* reader,
                Access access = Access::whole);
  ~WeightMapping();
  WeightMapping(const WeightMapping&) = delete;
  WeightMapping& operator=(const WeightMapping&) = delete;

  const void* data(size_t index) const { return pointers_[index]; }
  // Drops the pages of all tensors, mapped as they stay.
  void drop_pages();

 private:
  struct Run {
    void* address;
    size_t bytes;
    void* reserved;  // the address space set aside for it
    size_t reserved_bytes;
  };
  static Run map_by_pages(const File& file, int64_t begin, size_t bytes);
  std::vector<Run> runs_;
  std::vector<const void*> pointers_;
};

// Asks the kernel to read the rows of these tokens, all at once; it does not wait for them. `refs`
// are a table's tensors, made of as many panels as `vocab_size` takes.
void request_rows(const File& file, const std::vector<WeightRef>& refs, int64_t vocab_size,
                  const int32_t* tokens, int64_t count);

}  // namespace toolkit
