#include "trainer/weights.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>

#include "kernels/parallel.h"
#include "kernels/release.h"
#include "trainer/error.h"
#include "trainer/memory.h"
#include "trainer/profile.h"

namespace toolkit {
namespace {

// Mappings the release hook may touch. All of this belongs to the thread that runs the methods: the
// hook is called, and what it leaves for later is done, from there.
constexpr int kMaxRuns = 16;
struct Range {
  uintptr_t begin = 0, end = 0;
  Prefetcher* reader = nullptr;
  int64_t used = 0;  // bytes the reader has not been told of
};
Range ranges[kMaxRuns];

// Ranges that were consumed and whose pages are not yet given back. Giving back interrupts every
// core that runs a thread of the process, however small the range, so it is done for a batch at a
// time, and ranges that are small and still growing (scales beside codes) stay for a later one.
constexpr size_t kBatchBytes = 1 << 20;
constexpr size_t kSmallBytes = 128 << 10;
constexpr int kMaxPending = 32;
constexpr uintptr_t kPadding = 16 << 10;  // between tensors of a bundle
struct Pending {
  uintptr_t begin, end;
};
Pending pending[kMaxPending];
int pending_count = 0;
size_t pending_bytes = 0;
bool flush_waits = false;

void give_back(const Pending& consumed, const Range& range) {
  // Rounding down drops a page whose start was released before; the end waits for its rest.
  const uintptr_t page = page_size();
  const uintptr_t from = consumed.begin / page * page;
  const uintptr_t to = consumed.end == range.end ? consumed.end : consumed.end / page * page;
  if (from >= to) return;
  madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
}

Range* range_of(uintptr_t begin, uintptr_t end) {
  for (Range& range : ranges) {
    if (begin >= range.begin && end <= range.end) return &range;
  }
  return nullptr;
}

/// Joins ranges with nothing but padding between them, as codes and parameters of a weight.
void join_pending() {
  std::sort(pending, pending + pending_count,
            [](const Pending& a, const Pending& b) { return a.begin < b.begin; });
  int joined = 0;
  for (int i = 1; i < pending_count; ++i) {
    Pending& last = pending[joined];
    if (pending[i].begin <= last.end + kPadding &&
        range_of(last.begin, pending[i].end) != nullptr) {
      last.end = std::max(last.end, pending[i].end);
    } else {
      pending[++joined] = pending[i];
    }
  }
  if (pending_count > 0) pending_count = joined + 1;
}

void flush_pending() {
  flush_waits = false;
  profile().sample();
  const bool full = pending_count == kMaxPending;
  join_pending();
  int kept = 0;
  pending_bytes = 0;
  for (int i = 0; i < pending_count; ++i) {
    const size_t bytes = pending[i].end - pending[i].begin;
    if (bytes < kSmallBytes && !full) {
      pending_bytes += bytes;
      pending[kept++] = pending[i];
      continue;
    }
    const Range* range = range_of(pending[i].begin, pending[i].end);
    if (range != nullptr) give_back(pending[i], *range);
  }
  pending_count = kept;
  // Only now: the page cache does not forget what is mapped.
  for (Range& range : ranges) {
    if (range.reader != nullptr && range.used > 0) range.reader->used(range.used);
    range.used = 0;
  }
}

void release_pages(const void* data, size_t bytes, bool rest) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data), end = begin + bytes;
  Range* range = range_of(begin, end);
  if (range == nullptr) return;
  if (!rest) range->used += int64_t(bytes);
  pending_bytes += bytes;
  bool merged = false;
  for (int i = 0; i < pending_count && !merged; ++i) {
    Pending& last = pending[i];
    merged = begin >= last.begin && begin <= last.end;
    if (merged && end > last.end) last.end = end;
  }
  if (!merged) pending[pending_count++] = {begin, end};
  if (pending_count == kMaxPending || (flush_waits && pending_bytes >= 2 * kBatchBytes)) {
    flush_pending();
  } else if (pending_bytes >= kBatchBytes && !flush_waits) {
    flush_waits = true;
    do_beside_next(flush_pending);
  }
}

void add_range(void* address, size_t bytes, Prefetcher* reader) {
  static const bool installed = [] {
    set_release_hook(release_pages);
    return true;
  }();
  (void)installed;
  for (Range& range : ranges) {
    if (range.begin != 0) continue;
    const uintptr_t begin = reinterpret_cast<uintptr_t>(address);
    range = {begin, begin + bytes, reader, 0};
    return;
  }
  // With all places taken the pages stay until the mapping goes: slower to shrink, still right.
}

void remove_range(void* address) {
  profile().sample();
  pending_count = 0;
  pending_bytes = 0;
  for (Range& range : ranges) {
    if (range.begin == reinterpret_cast<uintptr_t>(address)) range = {};
  }
}

}  // namespace

/// Maps a part of a file where no huge page of the page cache fits: touching one tile would make
/// 2 MiB resident, MADV_NOHUGEPAGE or not.
WeightMapping::Run WeightMapping::map_by_pages(const File& file, int64_t begin, size_t bytes) {
  constexpr uintptr_t kHuge = 2 << 20;
  const size_t reserved = bytes + 2 * kHuge;
  void* place =
      mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) fail_errno("map", file.path());
  const uintptr_t first = reinterpret_cast<uintptr_t>(place);
  // Half a huge page away from where it would fit.
  const uintptr_t wanted = (uintptr_t(begin) + kHuge / 2) % kHuge;
  const uintptr_t at = first + (wanted + kHuge - first % kHuge) % kHuge;
  void* address =
      mmap(reinterpret_cast<void*>(at), bytes, PROT_READ, MAP_SHARED | MAP_FIXED, file.fd(), begin);
  if (address == MAP_FAILED) {
    munmap(place, reserved);
    fail_errno("map", file.path());
  }
  return {address, bytes, place, reserved};
}

WeightMapping::WeightMapping(const File& file, const std::vector<WeightRef>& refs,
                             Prefetcher* reader, Access access) {
  std::vector<size_t> order(refs.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return refs[a].offset < refs[b].offset; });
  pointers_.resize(refs.size());
  const int64_t page = page_size(), gap = 64 * 1024;
  for (size_t first = 0; first < order.size();) {
    const int64_t begin = refs[order[first]].offset / page * page;
    int64_t end = refs[order[first]].offset + refs[order[first]].bytes;
    size_t last = first + 1;
    while (last < order.size() && refs[order[last]].offset <= end + gap) {
      end = std::max(end, refs[order[last]].offset + refs[order[last]].bytes);
      ++last;
    }
    const size_t bytes = (end - begin + page - 1) / page * page;
    runs_.push_back(map_by_pages(file, begin, bytes));
    void* address = runs_.back().address;
    // Either way pages that were used do not count as worth keeping: under pressure they go before
    // those that were read ahead. Read around every row, a table would come from storage several
    // times over.
    madvise(address, bytes, access == Access::rows ? MADV_RANDOM : MADV_SEQUENTIAL);
    add_range(address, bytes, reader);
    for (size_t k = first; k < last; ++k) {
      pointers_[order[k]] = static_cast<char*>(address) + (refs[order[k]].offset - begin);
    }
    first = last;
  }
}

WeightMapping::~WeightMapping() {
  for (const Run& run : runs_) {
    remove_range(run.address);
    munmap(run.reserved, run.reserved_bytes);
  }
}

void WeightMapping::drop_pages() {
  for (const Run& run : runs_) madvise(run.address, run.bytes, MADV_DONTNEED);
}

void request_rows(const File& file, const std::vector<WeightRef>& refs, int64_t vocab_size,
                  const int32_t* tokens, int64_t count) {
  constexpr int64_t kPanelRows = 16;
  const int64_t panels = (vocab_size + kPanelRows - 1) / kPanelRows;
  for (int64_t t = 0; t < count; ++t) {
    for (const WeightRef& ref : refs) {
      const int64_t bytes = ref.bytes / panels;
      posix_fadvise(file.fd(), ref.offset + tokens[t] / kPanelRows * bytes, bytes,
                    POSIX_FADV_WILLNEED);
    }
  }
}

}  // namespace toolkit
