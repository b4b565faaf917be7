// What a run keeps of every layer: adapters, optimizer states, gradients where all are kept. In
// RAM, or in a file that is mapped whole and resident a layer at a time: what is done with is
// dropped from the process and stays in the file, that is, in the page cache until the kernel wants
// it. The file has no name and ends with the process, so it is never mistaken for a saved state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/files/files.h"
#include "engine/memory/memory.h"

namespace toolkit {

class SpillFile {
 public:
  // In parts of so many bytes, at most. Throws Error when the storage has no room for them or
  // cannot be mapped.
  SpillFile(const std::string& directory, const std::vector<size_t>& parts);
  ~SpillFile();
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;

  // The next of its parts, zeros.
  void* next(size_t bytes);
  // Has pages of a part leave the process; other memory is left alone. Throws Error where pages
  // could not be read or written since (bus_guard.h).
  void drop(const void* data, size_t bytes) const;
  // Throws Error where the storage lost changes: reading them back would give older values.
  void check() const;
  // Changed so far, by whole layers. What changes again before it reaches the storage costs nothing
  // there.
  int64_t changed_bytes() const { return changed_bytes_; }
  void count_changed(size_t bytes);

 private:
  File file_;
  char* data_ = nullptr;
  size_t bytes_ = 0, used_ = 0;
  int64_t changed_bytes_ = 0;
};

class LayerMemory {
 public:
  // `begins` [layers + 1]: where every layer begins, in bytes, and the end. In `file`, which is
  // borrowed, or in RAM without one.
  LayerMemory(const std::vector<size_t>& begins, Category category, const char* name,
              SpillFile* file);
  ~LayerMemory();
  LayerMemory(const LayerMemory&) = delete;
  LayerMemory& operator=(const LayerMemory&) = delete;

  void* data() const { return data_; }
  float* floats() const { return static_cast<float*>(data_); }
  size_t bytes() const { return begins_.back(); }
  bool spilled() const { return file_ != nullptr; }
  // Around the use of a layer: the ledger counts it, and the one behind it in the same direction is
  // read ahead. What is not in a file is always there.
  void use(int64_t layer);
  void rest(int64_t layer, bool changed);

 private:
  char* at(int64_t layer) const { return static_cast<char*>(data_) + begins_[layer]; }
  size_t layer_bytes(int64_t layer) const { return begins_[layer + 1] - begins_[layer]; }
  void account(int64_t bytes) const;
  void read_ahead(int64_t layer) const;

  const std::vector<size_t> begins_;
  const Category category_;
  SpillFile* const file_;
  Buffer buffer_;
  void* data_ = nullptr;
  int64_t used_ = -1, last_ = -1;  // layer in use, and the one before
};

}  // namespace toolkit
