#include "operators/together.h"

#include <chrono>
#include <stdexcept>

#include "kernels/few_rows.h"
#include "kernels/observer.h"
#include "kernels/parallel.h"

namespace toolkit {
namespace {
thread_local Together* current_one = nullptr;

bool is_same(const QuantizedMatrix& a, const QuantizedMatrix& b) {
  return a.codes == b.codes && a.scale == b.scale && a.offset == b.offset && a.rows == b.rows &&
         a.depth == b.depth && a.bits == b.bits;
}

/// But for adapters, of which there are as many.
bool is_same(const Mlp& a, const Mlp& b) {
  return is_same(a.gate, b.gate) && is_same(a.up, b.up) && is_same(a.down, b.down) &&
         a.scaling == b.scaling && a.activation == b.activation && a.fused == b.fused;
}

}  // namespace

Together::Together() {
  if (current_one != nullptr) throw std::logic_error("programs run side by side within others");
  current_one = this;
}

Together::~Together() { current_one = nullptr; }

Together* Together::current() { return current_one; }

bool Together::take(int64_t tokens, bool same) {
  // So few rows do without what would be shared, in another order of sums.
  if (are_few(kernels(), tokens)) return false;
  if (count_ > 0 && (tokens != tokens_ || !same || count_ == kMostTogether)) {
    throw std::logic_error("operators of programs side by side differ");
  }
  tokens_ = tokens;
  return true;
}

bool Together::linear(const LinearSequence& sequence, int64_t tokens, const QuantizedMatrix& w,
                      const float* bias, float scaling) {
  if (!take(tokens, !is_mlp_ && is_same(w, w_) && bias == bias_ && scaling == scaling_)) {
    return false;
  }
  is_mlp_ = false;
  w_ = w;
  bias_ = bias;
  scaling_ = scaling;
  linear_[count_++] = sequence;
  return true;
}

bool Together::mlp(const MlpSequence& sequence, int64_t tokens) {
  if (!take(tokens, is_mlp_ && is_same(sequence.weights, mlp_[0].weights))) return false;
  is_mlp_ = true;
  mlp_[count_++] = sequence;
  return true;
}

void Together::compute() const {
  if (is_mlp_) {
    kernels().mlp_together(mlp_, count_, tokens_);
  } else {
    kernels().linear_together(linear_, count_, tokens_, w_, bias_, scaling_);
  }
}

void Together::finish() {
  if (count_ == 0) return;
  const auto lock = exclusive_use();
  const auto begin = std::chrono::steady_clock::now();
  compute();
  const auto spent = std::chrono::steady_clock::now() - begin;
  const auto each = std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count() / count_;
  const OperatorObserver observer = operator_observer();
  for (int64_t i = 0; observer != nullptr && i < count_; ++i) observer(name_, each);
  count_ = 0;
}

}  // namespace toolkit
