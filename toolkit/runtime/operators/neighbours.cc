#include "operators/neighbours.h"

#include <chrono>
#include <stdexcept>
#include <utility>

#include "kernels/kernels.h"
#include "kernels/observer.h"
#include "kernels/parallel.h"

namespace toolkit {
namespace {
thread_local Neighbours* current_ones = nullptr;
}

Neighbours::Neighbours() {
  if (current_ones != nullptr) throw std::logic_error("neighbours within neighbours");
  current_ones = this;
}

Neighbours::~Neighbours() { current_ones = nullptr; }

Neighbours* Neighbours::current() { return current_ones; }

bool Neighbours::take(const float* x, int64_t rows, const FewRowsLinear& layer) {
  const bool others = x != x_ || rows != rows_ || layer.w.depth != layers_[0].w.depth;
  if (waits() && (others || count_ == kMostNeighbours)) compute();
  if (!are_few(kernels(), rows)) return false;
  x_ = x;
  rows_ = rows;
  names_[count_] = "";
  layers_[count_++] = layer;
  return true;
}

void Neighbours::compute() {
  const int64_t count = std::exchange(count_, 0);
  if (count == 0) return;
  const auto begin = std::chrono::steady_clock::now();
  few_rows_linears(kernels(), x_, rows_, layers_, count);
  const auto spent = std::chrono::steady_clock::now() - begin;
  const auto each = std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count() / count;
  const OperatorObserver observer = operator_observer();
  for (int64_t i = 0; observer != nullptr && i < count; ++i) observer(names_[i], each);
}

void Neighbours::finish() {
  if (!waits()) return;
  const auto lock = exclusive_use();
  compute();
}

}  // namespace toolkit
