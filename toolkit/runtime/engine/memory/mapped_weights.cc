#include "engine/memory/mapped_weights.h"

#include <sys/mman.h>

#include <algorithm>

#include "engine/error.h"
#include "engine/memory/memory.h"
#include "engine/runtime.h"
#include "kernels/parallel.h"

namespace toolkit {
namespace {

// Ranges that were consumed and whose pages are not yet given back. Giving back interrupts every
// core that runs a thread of the process, however small the range, so it is done for a batch at a
// time, and ranges that are small and still growing (scales beside codes) stay for a later one.
constexpr size_t kSmallBytes = 128 << 10;
constexpr uintptr_t kPadding = 16 << 10;  // between tensors of a bundle

}  // namespace

void MappedWeights::add(void* address, size_t bytes, Prefetcher* reader, bool stays) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(address);
  for (Range& range : ranges_) {
    if (range.begin != 0) continue;
    range.reader = reader;
    range.stays = stays;
    range.used = 0;
    range.patched = 0;
    range.end = begin + bytes;
    range.begin = begin;
    return;
  }
  fail(
      "the weights of one method lie in more than %d places of their file. Export the bundle again",
      kMaxRanges);
}

void MappedWeights::remove(void* address) {
  profile_.sample();
  pending_count_ = 0;
  pending_bytes_ = 0;
  for (Range& range : ranges_) {
    if (range.begin != reinterpret_cast<uintptr_t>(address)) continue;
    range.begin = range.end = 0;
    range.reader = nullptr;
  }
}

MappedWeights::Range* MappedWeights::range_of(uintptr_t begin, uintptr_t end) {
  for (Range& range : ranges_) {
    if (begin >= range.begin && end <= range.end) return &range;
  }
  return nullptr;
}

void MappedWeights::add_state(void* address, size_t bytes) {
  state_.patched = 0;
  state_.end = reinterpret_cast<uintptr_t>(address) + bytes;
  state_.begin = reinterpret_cast<uintptr_t>(address);
}

bool MappedWeights::patch(uintptr_t address) {
  const bool of_state = address >= state_.begin && address < state_.end;
  Range* range = of_state ? &state_ : range_of(address, address + 1);
  if (range == nullptr) return false;
  const uintptr_t from = address / page_size() * page_size(), end = range->end;
  uintptr_t none = 0;
  range->patched.compare_exchange_strong(none, from);
  return mmap(reinterpret_cast<void*>(from), end - from, PROT_READ | (of_state ? PROT_WRITE : 0),
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

uintptr_t MappedWeights::patched(const void* address) const {
  for (const Range& range : ranges_) {
    if (range.begin == reinterpret_cast<uintptr_t>(address)) return range.patched;
  }
  return 0;
}

/// Joins ranges with nothing but padding between them, as codes and parameters of a weight.
void MappedWeights::join_pending() {
  std::sort(pending_, pending_ + pending_count_,
            [](const Pending& a, const Pending& b) { return a.begin < b.begin; });
  int joined = 0;
  for (int i = 1; i < pending_count_; ++i) {
    Pending& last = pending_[joined];
    if (pending_[i].begin <= last.end + kPadding &&
        range_of(last.begin, pending_[i].end) != nullptr) {
      last.end = std::max(last.end, pending_[i].end);
    } else {
      pending_[++joined] = pending_[i];
    }
  }
  if (pending_count_ > 0) pending_count_ = joined + 1;
}

void MappedWeights::give_back_pending() {
  waits_ = false;
  profile_.sample();
  const bool full = pending_count_ == kMaxPending;
  join_pending();
  int kept = 0;
  pending_bytes_ = 0;
  for (int i = 0; i < pending_count_; ++i) {
    const Pending consumed = pending_[i];
    const size_t bytes = consumed.end - consumed.begin;
    if (bytes < kSmallBytes && !full) {
      pending_bytes_ += bytes;
      pending_[kept++] = consumed;
      continue;
    }
    const Range* range = range_of(consumed.begin, consumed.end);
    if (range == nullptr) continue;
    // Rounding down drops a page whose start was released before; the end waits for its rest.
    const uintptr_t page = page_size();
    const uintptr_t from = consumed.begin / page * page;
    const uintptr_t to = consumed.end == range->end ? consumed.end : consumed.end / page * page;
    if (from < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
  }
  pending_count_ = kept;
  // Only now: the page cache does not forget what is mapped.
  for (Range& range : ranges_) {
    if (range.reader != nullptr && range.used > 0) range.reader->used(range.used);
    range.used = 0;
  }
}

void MappedWeights::released(const void* data, size_t bytes, bool rest) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data), end = begin + bytes;
  Range* range = range_of(begin, end);
  if (range == nullptr || range->stays) return;
  if (!rest) range->used += int64_t(bytes);
  pending_bytes_ += bytes;
  bool merged = false;
  for (int i = 0; i < pending_count_ && !merged; ++i) {
    Pending& last = pending_[i];
    merged = begin >= last.begin && begin <= last.end;
    if (merged && end > last.end) last.end = end;
  }
  if (!merged) pending_[pending_count_++] = {begin, end};
  if (pending_count_ == kMaxPending || (waits_ && pending_bytes_ >= 2 * kBatchBytes)) {
    give_back_pending();
  } else if (pending_bytes_ >= kBatchBytes && !waits_) {
    waits_ = true;
    do_beside_next([] {
      if (Runtime* runtime = Runtime::current()) runtime->weights().give_back_pending();
    });
  }
}

}  // namespace toolkit
