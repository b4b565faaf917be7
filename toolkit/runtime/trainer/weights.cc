#include "trainer/weights.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <numeric>

#include "kernels/release.h"
#include "trainer/error.h"
#include "trainer/memory.h"
#include "trainer/profile.h"

namespace toolkit {
namespace {

// Mappings the release hook may touch. They change only between method runs, kernels' threads read
// them during one, and the kernels' thread pool orders the two.
constexpr int kMaxRuns = 16;
struct Range {
  std::atomic<uintptr_t> begin{0}, end{0};
};
Range ranges[kMaxRuns];

// Ranges that were consumed and whose pages are not yet given back. Giving back interrupts every
// core that runs a thread of the process, so it is done for a batch at a time.
constexpr size_t kBatchBytes = 1 << 20;
constexpr int kMaxPending = 16;
struct Pending {
  uintptr_t begin, end;
};
Pending pending[kMaxPending];
int pending_count = 0;
size_t pending_bytes = 0;

void give_back(const Pending& consumed, const Range& range) {
  // Rounding down drops a page whose start was released before; the end waits for its rest.
  const uintptr_t page = page_size();
  const uintptr_t from = consumed.begin / page * page;
  const uintptr_t to = consumed.end == range.end ? consumed.end : consumed.end / page * page;
  if (from < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
}

const Range* range_of(uintptr_t begin, uintptr_t end) {
  for (const Range& range : ranges) {
    if (begin >= range.begin && end <= range.end) return &range;
  }
  return nullptr;
}

void flush_pending() {
  profile().sample();
  for (int i = 0; i < pending_count; ++i) {
    const Range* range = range_of(pending[i].begin, pending[i].end);
    if (range != nullptr) give_back(pending[i], *range);
  }
  pending_count = 0;
  pending_bytes = 0;
}

void release_pages(const void* data, size_t bytes) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data), end = begin + bytes;
  if (range_of(begin, end) == nullptr) return;
  pending_bytes += bytes;
  bool merged = false;
  for (int i = 0; i < pending_count && !merged; ++i) {
    Pending& last = pending[i];
    merged = begin >= last.begin && begin <= last.end;
    if (merged && end > last.end) last.end = end;
  }
  if (!merged) pending[pending_count++] = {begin, end};
  if (pending_bytes >= kBatchBytes || pending_count == kMaxPending) flush_pending();
}

void add_range(void* address, size_t bytes) {
  static const bool installed = [] {
    set_release_hook(release_pages);
    return true;
  }();
  (void)installed;
  for (Range& range : ranges) {
    if (range.begin != 0) continue;
    range.begin = reinterpret_cast<uintptr_t>(address);
    range.end = range.begin + bytes;
    return;
  }
  // With all places taken the pages stay until the mapping goes: slower to shrink, still right.
}

void remove_range(void* address) {
  profile().sample();
  pending_count = 0;
  pending_bytes = 0;
  for (Range& range : ranges) {
    if (range.begin == reinterpret_cast<uintptr_t>(address)) range.begin = range.end = 0;
  }
}

}  // namespace

WeightMapping::WeightMapping(const File& file, const std::vector<WeightRef>& refs) {
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
    void* address = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file.fd(), begin);
    if (address == MAP_FAILED) fail_errno("map", file.path());
    // A huge page of the page cache would make 2 MiB resident where one tile is read.
    madvise(address, bytes, MADV_NOHUGEPAGE);
    runs_.push_back({address, bytes});
    add_range(address, bytes);
    for (size_t k = first; k < last; ++k) {
      pointers_[order[k]] = static_cast<char*>(address) + (refs[order[k]].offset - begin);
    }
    first = last;
  }
}

WeightMapping::~WeightMapping() {
  for (const Run& run : runs_) {
    remove_range(run.address);
    munmap(run.address, run.bytes);
  }
}

void WeightMapping::drop_pages() {
  for (const Run& run : runs_) madvise(run.address, run.bytes, MADV_DONTNEED);
}

Prefetcher::Prefetcher(const File& file) : fd_(file.fd()), thread_([this] { run(); }) {}

Prefetcher::~Prefetcher() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Prefetcher::request(const std::vector<WeightRef>& refs) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    pending_ = refs;
  }
  wake_.notify_one();
}

void Prefetcher::run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_) {
    wake_.wait(lock, [this] { return stop_ || !pending_.empty(); });
    const std::vector<WeightRef> refs = std::move(pending_);
    pending_.clear();
    lock.unlock();
    for (const WeightRef& ref : refs) {
      posix_fadvise(fd_, ref.offset, ref.bytes, POSIX_FADV_WILLNEED);
    }
    lock.lock();
  }
}

}  // namespace toolkit
