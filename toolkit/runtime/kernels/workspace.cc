#include "kernels/workspace.h"

#include <sys/mman.h>

// GCC has a macro for it, Clang a feature.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TOOLKIT_SANITIZES_ADDRESSES
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define TOOLKIT_SANITIZES_ADDRESSES
#endif
#ifdef TOOLKIT_SANITIZES_ADDRESSES
#include <sanitizer/asan_interface.h>
#endif

#include <atomic>
#include <string>
#include <vector>

#include "kernels/dry_run.h"
#include "kernels/error.h"
#include "kernels/parallel.h"

namespace toolkit {
namespace {

constexpr size_t kAlignment = 64;

// For the address sanitizer a chunk is out of bounds but for what was handed out, and between two
// allocations there is a gap.
#ifdef TOOLKIT_SANITIZES_ADDRESSES
constexpr size_t kGap = 64;
void allow(void* data, size_t bytes) { __asan_unpoison_memory_region(data, bytes); }
void forbid(void* data, size_t bytes) { __asan_poison_memory_region(data, bytes); }
#else
constexpr size_t kGap = 0;
void allow(void*, size_t) {}
void forbid(void*, size_t) {}
#endif

struct Chunk {
  char* data;
  size_t size;
  size_t used;
};

// Normally one chunk. An operator that needs more adds chunks; when the stack is empty again they
// are replaced by one for all that was in use at once, so that pointers handed out never move.
struct Store {
  std::vector<Chunk> chunks;
  int depth = 0;
  size_t in_use = 0, most_in_use = 0;
  std::atomic<size_t> bytes{0};  // also read by threads that run no operator
};

Store& store() {
  static Store instance;
  return instance;
}

size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

bool map_chunk(Store& s, size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return false;
  forbid(data, bytes);
  s.chunks.push_back({static_cast<char*>(data), bytes, 0});
  s.bytes += bytes;
  return true;
}

void unmap_all(Store& s) {
  for (const Chunk& chunk : s.chunks) {
    allow(chunk.data, chunk.size);
    munmap(chunk.data, chunk.size);
  }
  s.chunks.clear();
  s.bytes = 0;
  s.most_in_use = 0;
}

/// Takes back what was handed out of a chunk after `used`.
void rewind(Chunk& chunk, size_t used) {
  forbid(chunk.data + used, chunk.used - used);
  chunk.used = used;
}

}  // namespace

size_t workspace_bytes() { return store().bytes; }

void workspace_trim() {
  const auto lock = exclusive_use();
  if (store().depth == 0) unmap_all(store());
}

Scratch::Scratch() {
  if (const DryRun* dry = DryRun::current()) {
    mark_in_use_ = dry->in_use();
    return;
  }
  Store& s = store();
  ++s.depth;
  mark_in_use_ = s.in_use;
  mark_chunk_ = s.chunks.size();
  mark_used_ = s.chunks.empty() ? 0 : s.chunks.back().used;
}

Scratch::~Scratch() {
  if (DryRun* dry = DryRun::current()) {
    dry->rewind(mark_in_use_);
    return;
  }
  Store& s = store();
  s.in_use = mark_in_use_;
  for (size_t i = mark_chunk_; i < s.chunks.size(); ++i) rewind(s.chunks[i], 0);
  if (mark_chunk_ > 0) rewind(s.chunks[mark_chunk_ - 1], mark_used_);
  if (--s.depth == 0 && s.chunks.size() > 1) {
    const size_t most = s.most_in_use;
    unmap_all(s);
    map_chunk(s, round_up(most, kScratchGranule));  // where that fails, the next operator finds out
    s.most_in_use = most;
  }
}

void* Scratch::bytes(int64_t count) {
  const size_t wanted = static_cast<size_t>(count > 0 ? count : 1);
  const size_t bytes = round_up(wanted, kAlignment) + kGap;
  if (DryRun* dry = DryRun::current()) return dry->take(bytes);
  Store& s = store();
  if (s.chunks.empty() || s.chunks.back().used + bytes > s.chunks.back().size) {
    if (!map_chunk(s, round_up(bytes, kScratchGranule))) {
      throw Error("not enough memory for " + std::to_string(bytes) + " bytes of scratch beside " +
                  std::to_string(s.bytes) +
                  ". Use a shorter sequence length or fewer threads, or close other programs");
    }
  }
  Chunk& chunk = s.chunks.back();
  char* result = chunk.data + chunk.used;
  chunk.used += bytes;
  s.in_use += bytes;
  if (s.in_use > s.most_in_use) s.most_in_use = s.in_use;
  allow(result, wanted);
  return result;
}

float* Scratch::floats(int64_t count) {
  return static_cast<float*>(bytes(count * static_cast<int64_t>(sizeof(float))));
}

}  // namespace toolkit
