// Linear layers of a few rows that follow each other in a program and read the same rows (q, k and
// v), computed together: their rows are packed once, and threads come together once.
#pragma once

#include "kernels/few_rows.h"

namespace toolkit {

/// While it lives, such layers that this thread calls wait for the next operator that is none or
/// reads other rows, or for `finish`. Their weights, adapters and rows must stay what they are
/// until then, and what they write must not be read.
class Neighbours {
 public:
  Neighbours();
  ~Neighbours();
  Neighbours(const Neighbours&) = delete;
  Neighbours& operator=(const Neighbours&) = delete;

  /// Those of this thread; null outside of one.
  static Neighbours* current();

  /// Takes a layer on for later; false where it is the caller's to compute. Computes those that
  /// wait first where they read other rows.
  bool take(const float* x, int64_t rows, const FewRowsLinear& layer);

  /// Whether layers wait.
  bool waits() const { return count_ > 0; }
  /// Names the operator of the last one that waits, a literal.
  void name(const char* op) { names_[count_ - 1] = op; }
  /// Computes them within an operator, and tells the observer. Throws what the kernels throw.
  void compute();
  /// The same between operators.
  void finish();

 private:
  const char* names_[kMostNeighbours] = {};
  int64_t count_ = 0, rows_ = 0;
  const float* x_ = nullptr;
  FewRowsLinear layers_[kMostNeighbours];
};

}  // namespace toolkit
