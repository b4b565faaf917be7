// Memory the engine owns: anonymous mappings accounted by category.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace toolkit {

enum class Category { base, adapters, optimizer, gradients, checkpoints, arena, scratch, runtime };
constexpr int kCategories = 8;
const char* category_name(Category category);

// Bytes held per category now. Written by the thread that runs the engine.
class Ledger {
 public:
  void add(Category category, int64_t bytes) { bytes_[int(category)] += bytes; }
  // The same for what is pages of a file.
  void add_of_file(Category category, int64_t bytes) {
    add(category, bytes);
    of_file_ += bytes;
  }
  int64_t get(Category category) const { return bytes_[int(category)]; }
  int64_t of_file() const { return of_file_; }

 private:
  std::atomic<int64_t> bytes_[kCategories] = {};
  std::atomic<int64_t> of_file_{0};
};

// Called with memory that was read or filled and that will not be needed soon.
using Visited = std::function<void(const void* data, size_t bytes)>;

// Zero-filled anonymous mapping, page aligned; pages become resident when touched. The open
// Runtime's ledger counts it.
class Buffer {
 public:
  Buffer() = default;
  Buffer(size_t bytes, Category category, const char* name);  // throws Error when memory is short
  // The same of addresses alone, as many as there may ever be; account() says what is in use.
  static Buffer reserved(size_t bytes, Category category, const char* name);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  void* data() const { return data_; }
  float* floats() const { return static_cast<float*>(data_); }
  size_t bytes() const { return bytes_; }
  // Gives pages at and after `offset` back; they read as zeros when touched again.
  void release_from(size_t offset);
  // Says how many of the bytes are in use, for the ledger; all of them until then.
  void account(size_t bytes);

 private:
  void* data_ = nullptr;
  void map(int flags, const char* name);

  size_t bytes_ = 0, accounted_ = 0;
  Category category_ = Category::runtime;
};

size_t page_size();
// Has the C allocator give what is free back to the system.
void give_back_heap();
// Settings of the C allocator for a process that wants its freed memory back with the system.
void tune_allocator();

}  // namespace toolkit
