#include "engine/memory/weights.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>

#include "engine/error.h"
#include "engine/memory/memory.h"
#include "engine/runtime.h"

namespace toolkit {

namespace {

[[noreturn]] void fail_short(const File& file) {
  fail("%s became shorter while it was in use. Deploy the bundle again and resume",
       file.path().c_str());
}

}  // namespace

// One mapped part of the file, known to the open Runtime. Unless it stays in memory, it lies where
// no huge page of the page cache fits: touching one tile would make 2 MiB resident,
// MADV_NOHUGEPAGE or not. What stays is read from memory twice as fast in huge pages.
class WeightMapping::Run {
 public:
  Run(const File& file, int64_t begin, size_t bytes, Prefetcher* reader, Access access)
      : file_(file), begin_(begin), bytes_(bytes), place_(bytes + 2 * kHuge, file) {
    const uintptr_t first = reinterpret_cast<uintptr_t>(place_.data);
    const bool stays = access == Access::resident;
    // Half a huge page away from where it would fit.
    const uintptr_t wanted = (uintptr_t(begin) + (stays ? 0 : kHuge / 2)) % kHuge;
    void* at = reinterpret_cast<void*>(first + (wanted + kHuge - first % kHuge) % kHuge);
    data_ = mmap(at, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, file.fd(), begin);
    if (data_ == MAP_FAILED) fail_errno("map", file.path());
    // Either way pages that were used do not count as worth keeping: under pressure they go before
    // those that were read ahead. Read around every row, a table would come from storage several
    // times over.
    const int advice = access == Access::whole ? MADV_SEQUENTIAL : MADV_RANDOM;
    madvise(data_, bytes, stays ? MADV_HUGEPAGE : advice);
    Runtime::current()->weights().add(data_, bytes, reader, stays);
  }
  ~Run() { Runtime::current()->weights().remove(data_); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  const char* at(int64_t offset) const { return static_cast<char*>(data_) + (offset - begin_); }
  void drop_pages() { madvise(data_, bytes_, MADV_DONTNEED); }

  void check() const {
    const uintptr_t bad = Runtime::current()->weights().patched(data_);
    if (bad == 0) return;
    char byte;
    const int64_t offset = begin_ + int64_t(bad - reinterpret_cast<uintptr_t>(data_));
    const ssize_t count = pread(file_.fd(), &byte, 1, offset);
    if (count < 0) fail_errno("read", file_.path());
    if (count == 0) fail_short(file_);
    fail("%s could not be read at byte %lld. Check the storage of the device and resume",
         file_.path().c_str(), (long long)offset);
  }

 private:
  static constexpr uintptr_t kHuge = 2 << 20;
  struct Reservation {
    Reservation(size_t size, const File& file) : bytes(size) {
      data = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (data == MAP_FAILED) fail_errno("map", file.path());
    }
    ~Reservation() { munmap(data, bytes); }
    void* data;
    size_t bytes;
  };

  const File& file_;
  const int64_t begin_;
  const size_t bytes_;
  const Reservation place_;
  void* data_;
};

WeightMapping::WeightMapping(const File& file, const std::vector<WeightRef>& refs,
                             Prefetcher* reader, Access access)
    : file_(file) {
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
    end_ = std::max(end_, end);
    const size_t bytes = (end - begin + page - 1) / page * page;
    runs_.push_back(std::make_unique<Run>(file, begin, bytes, reader, access));
    for (size_t k = first; k < last; ++k) {
      pointers_[order[k]] = runs_.back()->at(refs[order[k]].offset);
    }
    first = last;
  }
  check();
}

WeightMapping::~WeightMapping() = default;

void WeightMapping::check() const {
  // Of the page a file now ends in the rest reads as zeros.
  if (file_.size() < end_) fail_short(file_);
  for (const auto& run : runs_) run->check();
}

void WeightMapping::drop_pages() {
  for (const auto& run : runs_) run->drop_pages();
}

void request_rows(const File& file, const std::vector<WeightRef>& refs, int64_t vocab_size,
                  const int32_t* tokens, int64_t count) {
  constexpr int64_t kPanelRows = 16;
  const int64_t panels = (vocab_size + kPanelRows - 1) / kPanelRows;
  for (int64_t t = 0; t < count; ++t) {
    for (const WeightRef& ref : refs) {
      const int64_t bytes = ref.bytes / panels;
      if (bytes == 0) continue;
      posix_fadvise(file.fd(), ref.offset + tokens[t] / kPanelRows * bytes, bytes,
                    POSIX_FADV_WILLNEED);
    }
  }
}

}  // namespace toolkit
