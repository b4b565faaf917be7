// Operators of several programs that run side by side, instruction by instruction: what reads
// weights waits until all programs have come to it, and is computed for all of them together.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace toolkit {

/// While it lives, linear layers and MLPs of this thread are not computed when they are called, but
/// by `finish`. Memory that they were given must stay what it is until then.
class Together {
 public:
  Together();
  ~Together();
  Together(const Together&) = delete;
  Together& operator=(const Together&) = delete;

  /// That of this thread; null outside of one.
  static Together* current();

  /// Takes a call on for later; false where it gains nothing, and is the caller's to compute. All
  /// calls until `finish` must be of one operator with the same weights.
  bool linear(const LinearSequence& sequence, int64_t tokens, const QuantizedMatrix& w,
              const float* bias, float scaling);
  bool mlp(const MlpSequence& sequence, int64_t tokens);

  /// Whether calls wait.
  bool waits() const { return count_ > 0; }
  /// Names the operator whose calls wait, a literal.
  void name(const char* op) { name_ = op; }
  /// Computes them, and tells the observer. Throws what the kernels throw.
  void finish();

 private:
  /// `same`: whether what is not of a sequence is that of the calls before.
  bool take(int64_t tokens, bool same);
  void compute() const;

  const char* name_ = "";
  int64_t count_ = 0, tokens_ = 0;
  bool is_mlp_ = false;  // like `w_`, `bias_` and `scaling_`: of the calls that wait
  LinearSequence linear_[kMostTogether];
  MlpSequence mlp_[kMostTogether];
  QuantizedMatrix w_;  // of the linear layer
  const float* bias_ = nullptr;
  float scaling_ = 0;
};

}  // namespace toolkit
