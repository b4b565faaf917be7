#include "kernels/workspace.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace toolkit {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kGranule = 64 * 1024;

struct Chunk {
  char* data;
  size_t size;
  size_t used;
};

// Normally one chunk. An operator that needs more adds chunks; when the stack is empty again they
// are replaced by one of their total size, so that pointers handed out never move.
struct Store {
  std::vector<Chunk> chunks;
  int depth = 0;
};

Store& store() {
  static Store instance;
  return instance;
}

size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

Chunk map_chunk(size_t bytes) {
  const size_t size = round_up(bytes, kGranule);
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    std::fprintf(stderr, "error: out of memory: %zu bytes of scratch could not be mapped\n", size);
    std::abort();
  }
  return {static_cast<char*>(data), size, 0};
}

void unmap_all(Store& s) {
  for (const Chunk& chunk : s.chunks) munmap(chunk.data, chunk.size);
  s.chunks.clear();
}

}  // namespace

size_t workspace_bytes() {
  size_t total = 0;
  for (const Chunk& chunk : store().chunks) total += chunk.size;
  return total;
}

void workspace_trim() {
  if (store().depth == 0) unmap_all(store());
}

Scratch::Scratch() {
  Store& s = store();
  ++s.depth;
  mark_chunk_ = s.chunks.size();
  mark_used_ = s.chunks.empty() ? 0 : s.chunks.back().used;
}

Scratch::~Scratch() {
  Store& s = store();
  for (size_t i = mark_chunk_; i < s.chunks.size(); ++i) s.chunks[i].used = 0;
  if (mark_chunk_ > 0) s.chunks[mark_chunk_ - 1].used = mark_used_;
  if (--s.depth == 0 && s.chunks.size() > 1) {
    const size_t total = workspace_bytes();
    unmap_all(s);
    s.chunks.push_back(map_chunk(total));
  }
}

float* Scratch::floats(int64_t count) {
  Store& s = store();
  const size_t bytes =
      round_up(static_cast<size_t>(count > 0 ? count : 1) * sizeof(float), kAlignment);
  if (s.chunks.empty() || s.chunks.back().used + bytes > s.chunks.back().size) {
    s.chunks.push_back(map_chunk(bytes));
  }
  Chunk& chunk = s.chunks.back();
  float* result = reinterpret_cast<float*>(chunk.data + chunk.used);
  chunk.used += bytes;
  return result;
}

}  // namespace toolkit
