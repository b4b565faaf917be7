#include "engine/memory/prefetcher.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "engine/error.h"
#include "engine/memory/memory_stats.h"

namespace toolkit {
namespace {

constexpr int64_t kWindow = 32 << 20;   // bytes read ahead
constexpr int64_t kPiece = 1 << 20;     // bytes read at a time
constexpr int64_t kStride = 4 << 20;    // bytes dropped at a time within a stage
constexpr int64_t kPadding = 64 << 10;  // between tensors that are read as one
// The kernel cuts a request to what the storage reads ahead at a time: 128 KiB on many phones.
constexpr int64_t kLeastRequest = 128 << 10;

// What the storage of a file reads ahead at a time; the least where that is not told (a partition
// has its disk's).
int64_t read_ahead_bytes(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return kLeastRequest;
  for (const char* place : {"", "/.."}) {
    const std::string kilobytes =
        read_line(format("/sys/dev/block/%u:%u%s/queue/read_ahead_kb",
                         unsigned(major(status.st_dev)), unsigned(minor(status.st_dev)), place));
    if (!kilobytes.empty()) return std::max(kLeastRequest, int64_t(atoll(kilobytes.c_str())) << 10);
  }
  return kLeastRequest;
}

// To advise on no bytes of a file is to advise on all to its end.
std::vector<WeightRef> without_empty(std::vector<WeightRef> refs) {
  refs.erase(
      std::remove_if(refs.begin(), refs.end(), [](const WeightRef& ref) { return ref.bytes <= 0; }),
      refs.end());
  return refs;
}

std::vector<WeightRef> joined(std::vector<WeightRef> refs) {
  std::sort(refs.begin(), refs.end(),
            [](const WeightRef& a, const WeightRef& b) { return a.offset < b.offset; });
  std::vector<WeightRef> result;
  for (const WeightRef& ref : refs) {
    const int64_t end = result.empty() ? -1 : result.back().offset + result.back().bytes;
    if (!result.empty() && ref.offset <= end + kPadding) {
      result.back().bytes = std::max(end, ref.offset + ref.bytes) - result.back().offset;
    } else {
      result.push_back(ref);
    }
  }
  return result;
}

std::vector<WeightRef> by_size(std::vector<WeightRef> refs) {
  std::sort(refs.begin(), refs.end(),
            [](const WeightRef& a, const WeightRef& b) { return a.bytes < b.bytes; });
  return refs;
}

// Joins ranges with neighbours of `others`. Large folios of the page cache reach over the bounds of
// ranges, and only folios that lie within a range as a whole are dropped.
void extend_over(const std::vector<WeightRef>& others, std::vector<WeightRef>* ranges) {
  for (WeightRef& range : *ranges) {
    for (const WeightRef& other : others) {
      const int64_t begin = std::min(range.offset, other.offset);
      const int64_t end = std::max(range.offset + range.bytes, other.offset + other.bytes);
      if (end - begin <= range.bytes + other.bytes + kPadding) range = {begin, end - begin};
    }
  }
}

// Bytes the process had read from storage so far. An app that cannot be debugged is not told; there
// the page faults that had to wait for storage stand for what it reads ahead at each of them.
int64_t storage_read(int64_t request_bytes) {
  const int64_t bytes = storage_bytes_read();
  return bytes >= 0 ? bytes : major_faults() * request_bytes;
}

bool page_cache_holds(int64_t bytes) {
  const int64_t available = memory_available_kib() * 1024;
  return available == 0 || available > bytes + bytes / 4;
}

}  // namespace

PageCache page_cache_from(const std::string& name) {
  if (name == "auto") return PageCache::automatic;
  if (name == "keep") return PageCache::keep;
  if (name == "drop") return PageCache::drop;
  fail_usage("unknown use of the page cache '%s'. Choose auto, keep or drop", name.c_str());
}

// The file is opened once more for a read-ahead state of its own.
Prefetcher::Prefetcher(const File& file, PageCache page_cache, int64_t request_bytes)
    : page_cache_(page_cache),
      file_bytes_(file.size()),
      file_(file.path(), O_RDONLY | O_CLOEXEC),
      sink_("/dev/null", O_WRONLY | O_CLOEXEC),
      request_bytes_(request_bytes > 0 ? request_bytes : read_ahead_bytes(file_.fd())),
      by_sink_(request_bytes_ >= kPiece),
      thread_([this] { run(); }) {}

Prefetcher::~Prefetcher() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Prefetcher::plan(const std::vector<WeightStage>& stages) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stages_.clear();
    int64_t bytes = 0;
    for (const WeightStage& given : stages) {
      Stage stage;
      stage.in_stride = given.in_stride;
      const std::vector<WeightRef> refs = without_empty(given.refs);
      stage.refs = given.in_stride ? by_size(refs) : joined(refs);
      for (const WeightRef& ref : stage.refs) stage.bytes += ref.bytes;
      stage.begin = bytes;
      stage.end = bytes += stage.bytes * given.sweeps;
      stages_.push_back(std::move(stage));
    }
    stage_ = read_stage_ = drop_stage_ = 0;
    used_ = read_at_ = drop_at_ = 0;
    const int64_t read = storage_read(request_bytes_);
    const bool first = storage_bytes_ < 0;
    dropping_ = page_cache_ == PageCache::drop ||
                (page_cache_ == PageCache::automatic && !page_cache_holds(file_bytes_));
    reading_ = dropping_ || first || read - storage_bytes_ >= kPiece;
    storage_bytes_ = read;
  }
  wake_.notify_one();
}

bool Prefetcher::reads() {
  std::lock_guard<std::mutex> lock(mutex_);
  return reading_;
}

bool Prefetcher::drops() {
  std::lock_guard<std::mutex> lock(mutex_);
  return dropping_;
}

void Prefetcher::begin(size_t stage) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stage_ = stage;
    used_ = 0;
  }
  wake_.notify_one();
}

void Prefetcher::used(int64_t bytes) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    used_ += bytes;
    if (!reading_) return;
  }
  wake_.notify_one();
}

/// What lies at a byte of a sweep, to the end of its tensor or of a piece.
WeightRef Prefetcher::piece(const Stage& stage, int64_t at) {
  for (const WeightRef& ref : stage.refs) {
    if (at < ref.bytes) return {ref.offset + at, std::min(kPiece, ref.bytes - at)};
    at -= ref.bytes;
  }
  return {};
}

bool Prefetcher::next_read(WeightRef* range) {
  if (read_stage_ < stage_) {  // fell behind
    read_stage_ = stage_;
    read_at_ = 0;
  }
  while (read_stage_ < stages_.size() && stages_[read_stage_].bytes == 0) ++read_stage_;
  if (!reading_ || read_stage_ >= stages_.size()) return false;
  const Stage &running = stages_[stage_], &stage = stages_[read_stage_];
  if (stage.begin + read_at_ >= std::min(running.begin + used_, running.end) + kWindow)
    return false;
  *range = piece(stage, read_at_ % stage.bytes);
  read_at_ += range->bytes;
  if (stage.begin + read_at_ >= stage.end) {
    ++read_stage_;
    read_at_ = 0;
  }
  return true;
}

std::vector<WeightRef> Prefetcher::next_drop() {
  if (!dropping_ || drop_stage_ >= stages_.size()) return {};
  const Stage& stage = stages_[drop_stage_];
  if (drop_stage_ < stage_) {
    std::vector<WeightRef> ranges = stage.refs;
    if (drop_stage_ > 0) extend_over(stages_[drop_stage_ - 1].refs, &ranges);
    ++drop_stage_;
    drop_at_ = 0;
    return ranges;
  }
  if (!stage.in_stride || stage.bytes == 0) return {};
  const WeightRef& largest = stage.refs.back();
  for (;;) {
    // What was used last may still be mapped, and what comes next has been read.
    const int64_t sweep = drop_at_ / largest.bytes, at = drop_at_ % largest.bytes;
    const double share = double(used_) / double(stage.bytes) - double(sweep);
    const int64_t done = std::min(int64_t(share * double(largest.bytes)), largest.bytes);
    const int64_t most = std::min(at + kStride, largest.bytes);
    if (at == most || done < std::min(most + kPiece, largest.bytes)) return {};
    drop_at_ += most - at;
    const int64_t from = std::max<int64_t>(0, at - kStride);
    // Unless they have been read for the next sweep already.
    const int64_t again = (sweep + 2) * stage.bytes - largest.bytes + from;
    if (stage.begin + again >= stage.end || (read_stage_ == drop_stage_ && read_at_ <= again)) {
      return {{largest.offset + from, most - from}};
    }
  }
}

// Sending to the null device reads in sequence without copying. Beside the computation it takes
// less of the processor than requests for pages by number, but it waits for the data, and where the
// storage reads little ahead, requests keep it busier.
void Prefetcher::read(const WeightRef& range) {
  if (by_sink_) {
    reopen();
    off_t at = range.offset, end = range.offset + range.bytes;
    while (at < end && by_sink_) {
      by_sink_ = sendfile(sink_.fd(), file_.fd(), &at, size_t(end - at)) > 0;
    }
    return;
  }
  for (int64_t at = 0; at < range.bytes; at += request_bytes_) {
    posix_fadvise(file_.fd(), range.offset + at, std::min(request_bytes_, range.bytes - at),
                  POSIX_FADV_WILLNEED);
  }
}

/// Begins anew what the kernel knows of the reader. Folios grow as one goes on, and Linux from 6.18
/// on maps a folio that is touched as a whole: 2 MB more at the peak.
void Prefetcher::reopen() {
  const int fd = ::open(format("/proc/self/fd/%d", file_.fd()).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    dup3(fd, file_.fd(), O_CLOEXEC);
    ::close(fd);
  }
}

void Prefetcher::drop(const WeightRef& range) {
  posix_fadvise(file_.fd(), range.offset, range.bytes, POSIX_FADV_DONTNEED);
}

void Prefetcher::run() {
  try {
    work();
  } catch (const std::bad_alloc&) {
    // Reading ahead is a favour: without memory for it the computation waits for its weights.
  }
}

void Prefetcher::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_) {
    WeightRef range;
    const std::vector<WeightRef> done = next_drop();
    const bool reads = done.empty() && next_read(&range);
    if (done.empty() && !reads) {
      wake_.wait(lock);
      continue;
    }
    lock.unlock();
    if (reads) read(range);
    for (const WeightRef& used_up : done) drop(used_up);
    lock.lock();
  }
}

}  // namespace toolkit
