#include "engine/memory/memory.h"

#include <malloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <utility>

#include "engine/error.h"
#include "engine/runtime.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

namespace toolkit {

const char* category_name(Category category) {
  static const char* const names[kCategories] = {
      "base", "adapters", "optimizer", "gradients", "checkpoints", "arena", "scratch", "runtime"};
  return names[int(category)];
}

size_t page_size() {
  static const size_t size = sysconf(_SC_PAGESIZE);
  return size;
}

Buffer::Buffer(size_t bytes, Category category, const char* name)
    : bytes_(bytes), category_(category) {
  map(0, name);
  account(bytes);
}

Buffer Buffer::reserved(size_t bytes, Category category, const char* name) {
  Buffer buffer;
  buffer.bytes_ = bytes;
  buffer.category_ = category;
  buffer.map(MAP_NORESERVE, name);
  return buffer;
}

void Buffer::map(int flags, const char* name) {
  const size_t bytes = bytes_;
  if (bytes == 0) return;
  data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (data_ == MAP_FAILED) {
    data_ = nullptr;
    fail(
        "not enough memory for %s of %s. Close other programs, or use a shorter sequence length or "
        "a smaller model",
        size_text(int64_t(bytes)).c_str(), name);
  }
  // A huge page would make memory resident that is never touched.
  madvise(data_, bytes, MADV_NOHUGEPAGE);
  // Shown in /proc/self/smaps; kernels without the feature refuse, which does no harm.
  prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, data_, bytes, name);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      accounted_(std::exchange(other.accounted_, 0)),
      category_(other.category_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(accounted_, other.accounted_);
  std::swap(category_, other.category_);
  return *this;
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  account(0);
  munmap(data_, bytes_);
}

void Buffer::release_from(size_t offset) {
  const size_t page = page_size();
  const size_t begin = (offset + page - 1) / page * page;
  if (begin < bytes_) madvise(static_cast<char*>(data_) + begin, bytes_ - begin, MADV_DONTNEED);
}

void Buffer::account(size_t bytes) {
  if (Runtime* runtime = Runtime::current()) {
    runtime->ledger().add(category_, int64_t(bytes) - int64_t(accounted_));
  }
  accounted_ = bytes;
}

void give_back_heap() {
#if defined(__GLIBC__)
  malloc_trim(0);
#elif defined(M_PURGE)
  mallopt(M_PURGE, 0);
#endif
}

void tune_allocator() {
#ifdef __GLIBC__
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 64 * 1024);
  mallopt(M_TRIM_THRESHOLD, 64 * 1024);
#endif
}

}  // namespace toolkit
