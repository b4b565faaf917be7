// Frozen weights: mapped for one method run, dropped from memory as they are used.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/memory/prefetcher.h"

namespace toolkit {

// How a mapping is read: in full; or a few rows here and there, of which only those are wanted; or
// in full again and again, so that it stays in memory where there is room.
enum class Access { whole, rows, resident };

// Maps the tensors of one method run. Neighbours in the file share one mapping.
// While mapped, kernels::release() gives consumed pages back (they are clean file pages, so a page
// needed again is simply read again). Needs the open Runtime.
class WeightMapping {
 public:
  // `reader`, unless null, is told what was used. Throws Error.
  WeightMapping(const File& file, const std::vector<WeightRef>& refs, Prefetcher* reader,
                Access access = Access::whole);
  ~WeightMapping();
  WeightMapping(const WeightMapping&) = delete;
  WeightMapping& operator=(const WeightMapping&) = delete;

  const void* data(size_t index) const { return pointers_[index]; }
  // Throws Error when some of the weights could not be read since they were mapped: nothing that
  // was computed with them is worth anything then.
  void check() const;
  // Drops the pages of all tensors, mapped as they stay.
  void drop_pages();

 private:
  class Run;
  const File& file_;
  int64_t end_ = 0;  // of the last tensor in the file
  std::vector<std::unique_ptr<Run>> runs_;
  std::vector<const void*> pointers_;
};

// Asks the kernel to read the rows of these tokens, all at once; it does not wait for them. `refs`
// are a table's tensors, made of as many panels as `vocab_size` takes.
void request_rows(const File& file, const std::vector<WeightRef>& refs, int64_t vocab_size,
                  const int32_t* tokens, int64_t count);

}  // namespace toolkit
