#include "trainer/weights.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
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

namespace {

/// Maps a part of a file where no huge page of the page cache fits: touching one tile would make
/// 2 MiB resident, MADV_NOHUGEPAGE or not.
void* map_by_pages(const File& file, int64_t begin, size_t bytes) {
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
  if (at > first) munmap(place, at - first);
  munmap(reinterpret_cast<void*>(at + bytes), first + reserved - at - bytes);
  if (address == MAP_FAILED) fail_errno("map", file.path());
  return address;
}

}  // namespace

WeightMapping::WeightMapping(const File& file, const std::vector<WeightRef>& refs, Access access) {
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
    void* address = map_by_pages(file, begin, bytes);
    // Either way pages that were used do not count as worth keeping: under pressure they go before
    // those that were read ahead. Read around every row, a table would come from storage several
    // times over.
    madvise(address, bytes, access == Access::rows ? MADV_RANDOM : MADV_SEQUENTIAL);
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

namespace {

// The kernel cuts a request to what the storage reads ahead at a time: 128 KiB on many phones.
constexpr int64_t kLeastRequest = 128 << 10, kMostRequest = 2 << 20;
// A request reads so much at most: more could push out what it read first before that is used.
constexpr int64_t kAheadBytes = 24 << 20;

// What the storage of a file reads ahead at a time; the least where that is not told (a partition
// has its disk's).
int64_t request_bytes(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return kLeastRequest;
  for (const char* place : {"", "/.."}) {
    char path[96];
    snprintf(path, sizeof(path), "/sys/dev/block/%u:%u%s/queue/read_ahead_kb",
             unsigned(major(status.st_dev)), unsigned(minor(status.st_dev)), place);
    FILE* file = fopen(path, "re");
    if (file == nullptr) continue;
    long long kilobytes = 0;
    const bool told = fscanf(file, "%lld", &kilobytes) == 1;
    fclose(file);
    if (told) return std::clamp<int64_t>(kilobytes << 10, kLeastRequest, kMostRequest);
  }
  return kLeastRequest;
}

void read_ahead(int fd, int64_t offset, int64_t bytes, int64_t step) {
  for (int64_t at = 0; at < bytes; at += step) {
    posix_fadvise(fd, offset + at, std::min(step, bytes - at), POSIX_FADV_WILLNEED);
  }
}

}  // namespace

void request_rows(const File& file, const std::vector<WeightRef>& refs, int64_t vocab_size,
                  const int32_t* tokens, int64_t count) {
  constexpr int64_t kPanelRows = 16;
  const int64_t panels = (vocab_size + kPanelRows - 1) / kPanelRows;
  for (int64_t t = 0; t < count; ++t) {
    for (const WeightRef& ref : refs) {
      const int64_t bytes = ref.bytes / panels;
      read_ahead(file.fd(), ref.offset + tokens[t] / kPanelRows * bytes, bytes, kLeastRequest);
    }
  }
}

Prefetcher::Prefetcher(const File& file)
    : fd_(file.fd()), step_(request_bytes(fd_)), thread_([this] { run(); }) {}

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
    int64_t left = kAheadBytes;
    for (const WeightRef& ref : refs) {
      pending_.push_back({ref.offset, std::min(ref.bytes, left)});
      left -= pending_.back().bytes;
    }
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
    for (const WeightRef& ref : refs) read_ahead(fd_, ref.offset, ref.bytes, step_);
    lock.lock();
  }
}

}  // namespace toolkit
