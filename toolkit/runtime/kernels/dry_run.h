// Operators that compute nothing: what scratch they would take, on any instruction set.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/primitives.h"

namespace toolkit {

/// While it lives, `kernels()` of this thread has the tiles of a named instruction set, which need
/// not be this processor's, and primitives that do nothing. Parallel regions are left out, for so
/// many threads, nothing is released, and scratch is counted instead of mapped. Operators may be
/// given tensors whose floats and weights cannot be read.
class DryRun {
 public:
  /// Throws UsageError when no instruction set or arithmetic has this name, or without threads.
  DryRun(const std::string& isa, int threads, const std::string& arithmetic = kArithmetics[0]);
  ~DryRun();
  DryRun(const DryRun&) = delete;
  DryRun& operator=(const DryRun&) = delete;

  /// That of this thread, the innermost; null outside of one.
  static DryRun* current();

  const Kernels& kernels() const { return kernels_; }
  int threads() const { return threads_; }
  /// Bytes of scratch in use at once, at most, since the last call.
  size_t take_peak();
  /// Bytes of weights that an operator has read and not yet given back, at most, since the last
  /// call.
  size_t take_read();
  // For operators, when they begin and for every matrix they read.
  void begin_operator() { read_ = 0; }
  void read(size_t bytes);

  // For Scratch: an address that nothing is at, and what it is the end of.
  void* take(size_t bytes);
  size_t in_use() const { return in_use_; }
  void rewind(size_t in_use) { in_use_ = in_use; }

 private:
  Primitives primitives_;
  Arithmetic arithmetic_;
  Kernels kernels_;
  int threads_;
  DryRun* const outer_;  // goes on when this one ends
  size_t in_use_ = 0, peak_ = 0;
  size_t read_ = 0, most_read_ = 0;
};

}  // namespace toolkit
