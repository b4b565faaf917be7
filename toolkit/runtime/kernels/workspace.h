// Scratch memory of the kernels: one block that grows to what the largest operator needs, rounded
// up to kScratchGranule, and is reused. In a dry run it is only counted.
#pragma once

#include <cstddef>
#include <cstdint>

namespace toolkit {

constexpr size_t kScratchGranule = 64 * 1024;

/// Bytes the workspace holds at present (virtual; pages never touched are not resident).
size_t workspace_bytes();

/// Gives the workspace back to the operating system. Waits for a running operator, so it must not
/// be called by one.
void workspace_trim();

/// Allocations of one operator, released together when it goes out of scope. Scopes nest like a
/// stack. Not thread-safe: threads get slices of what the operator's own thread allocated.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// Uninitialized memory for `count` bytes or floats, aligned to 64 bytes and padded to a multiple
  /// of them. Throws Error when there is no more memory.
  void* bytes(int64_t count);
  float* floats(int64_t count);

 private:
  size_t mark_in_use_ = 0;
  size_t mark_chunk_ = 0;
  size_t mark_used_ = 0;
};

}  // namespace toolkit
