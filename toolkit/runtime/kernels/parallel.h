// A small thread pool with a static partition: the same thread count gives the same split, hence
// the same bits.
#pragma once

#include <cstdint>
#include <type_traits>

namespace toolkit {

/// Sets how many threads `parallel` uses, the caller included. Values below 1 mean 1.
void set_threads(int count);

/// Number of threads `parallel` uses; the hardware's count until `set_threads` was called.
int threads();

namespace internal {
using RangeFunction = void (*)(void* context, int64_t begin, int64_t end, int thread);
void run_parallel(int64_t n, RangeFunction function, void* context);
}  // namespace internal

/// Calls fn(begin, end, thread) on disjoint contiguous ranges covering [0, n), one range a thread,
/// and returns when all are done. Empty ranges are not called. Calls from within fn run on the
/// calling thread.
template <typename F>
void parallel(int64_t n, F&& fn) {
  using Callable = std::remove_reference_t<F>;
  internal::run_parallel(
      n,
      [](void* context, int64_t begin, int64_t end, int thread) {
        (*static_cast<Callable*>(context))(begin, end, thread);
      },
      const_cast<void*>(static_cast<const void*>(&fn)));
}

}  // namespace toolkit
