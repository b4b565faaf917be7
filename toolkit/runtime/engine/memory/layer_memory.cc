#include "engine/memory/layer_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/error.h"
#include "engine/memory/dry_step.h"
#include "engine/runtime.h"

namespace toolkit {
namespace {

// Pages that the kernel maps around one that was asked for: 64 KiB, and since Linux 6.18 the whole
// of the folio that it lies in, at most a huge page.
constexpr uintptr_t kAround = 2 << 20;

/// Has the storage set the file's blocks aside: what is mapped has no way to say that it is full.
void extend(File& file, int64_t end) {
  if (fallocate(file.fd(), 0, 0, end) == 0) return;
  if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
    fail_errno("make room for the state in", file.path());
  }
  const std::vector<char> zeros(256 << 10);
  for (int64_t at = 0; at < end; at += int64_t(zeros.size())) {
    file.write_at(zeros.data(), size_t(std::min(end - at, int64_t(zeros.size()))), at);
  }
}

size_t whole_pages(size_t bytes) {
  const size_t page = page_size();
  return (bytes + page - 1) / page * page;
}

}  // namespace

SpillFile::SpillFile(const std::string& directory, const std::vector<size_t>& parts) {
  const bool dry = DryStep::current() != nullptr;  // then it is of addresses alone
  if (!dry) {
    file_ = File(directory + "/state.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600);
    remove_file(file_.path());
  }
  for (size_t bytes : parts) bytes_ += whole_pages(bytes);
  if (bytes_ == 0) return;
  if (!dry) extend(file_, int64_t(bytes_));
  const int kind = dry ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
  void* data = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, kind, file_.fd(), 0);
  if (data == MAP_FAILED) fail_errno("map", directory + "/state.tmp");
  data_ = static_cast<char*>(data);
  if (dry) return;
  if (Runtime* runtime = Runtime::current()) runtime->weights().add_state(data_, bytes_);
}

SpillFile::~SpillFile() {
  if (data_ == nullptr) return;
  if (Runtime* runtime = Runtime::current()) runtime->weights().remove_state();
  munmap(data_, bytes_);
}

void* SpillFile::next(size_t bytes) {
  if (whole_pages(bytes) > bytes_ - used_) {
    fail("%s has no room for %zu bytes. Report this as a bug", file_.path().c_str(), bytes);
  }
  void* data = data_ + used_;
  used_ += whole_pages(bytes);
  return data;
}

void SpillFile::count_changed(size_t bytes) {
  changed_bytes_ += int64_t(bytes);
  if (Runtime* runtime = Runtime::current()) runtime->count_written(int64_t(bytes));
}

void SpillFile::drop(const void* data, size_t bytes) const {
  const uintptr_t page = page_size(), begin = uintptr_t(data), end = begin + bytes;
  const uintptr_t first = uintptr_t(data_), last = first + bytes_;
  if (begin < first || begin >= last) return;
  const uintptr_t from = std::max(first, (begin - std::min(begin, kAround)) / page * page);
  const uintptr_t to = std::min(last, (end + kAround + page - 1) / page * page);
  madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
  const Runtime* runtime = Runtime::current();
  if (runtime == nullptr || !runtime->weights().state_patched()) return;
  fail(
      "a part of the state in %s could not be read or written. Resume with --state ram, or on "
      "other storage",
      file_.path().c_str());
}

void SpillFile::check() const {
  if (!file_.is_open() || fsync(file_.fd()) == 0) return;
  fail(
      "the storage lost a part of the state in %s: %s. Resume with --state ram, or on other "
      "storage",
      file_.path().c_str(), std::strerror(errno));
}

LayerMemory::LayerMemory(const std::vector<size_t>& begins, Category category, const char* name,
                         SpillFile* file)
    : begins_(begins), category_(category), file_(file) {
  if (file_ == nullptr) buffer_ = Buffer(bytes(), category, name);
  data_ = file_ == nullptr ? buffer_.data() : file_->next(bytes());
}

LayerMemory::~LayerMemory() {
  if (used_ >= 0) account(-int64_t(layer_bytes(used_)));
}

void LayerMemory::use(int64_t layer) {
  if (file_ == nullptr || used_ == layer) return;
  if (used_ >= 0) rest(used_, false);
  used_ = layer;
  account(int64_t(layer_bytes(layer)));
  read_ahead(last_ < 0 || last_ == layer ? layer : 2 * layer - last_);
  last_ = layer;
}

void LayerMemory::rest(int64_t layer, bool changed) {
  if (file_ == nullptr) return;
  if (changed) file_->count_changed(layer_bytes(layer));
  if (used_ == layer) {
    account(-int64_t(layer_bytes(layer)));
    used_ = -1;
  }
  file_->drop(at(layer), layer_bytes(layer));
}

void LayerMemory::account(int64_t bytes) const {
  if (Runtime* runtime = Runtime::current()) runtime->ledger().add_of_file(category_, bytes);
}

void LayerMemory::read_ahead(int64_t layer) const {
  if (layer < 0 || layer + 1 >= int64_t(begins_.size())) return;
  const uintptr_t page = page_size(), begin = uintptr_t(at(layer)) / page * page;
  const uintptr_t end = uintptr_t(at(layer)) + layer_bytes(layer);
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
}

}  // namespace toolkit
