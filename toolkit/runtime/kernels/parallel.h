// A small thread pool. Work is split evenly in advance; where a caller allows it, threads that are
// done take over what slower ones (small cores, cores that others use too) have not begun.
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
void run_parallel(int64_t n, int64_t grain, RangeFunction function, void* context);

template <typename F>
void parallel(int64_t n, int64_t grain, F& fn) {
  using Callable = std::remove_reference_t<F>;
  run_parallel(
      n, grain,
      [](void* context, int64_t begin, int64_t end, int thread) {
        (*static_cast<Callable*>(context))(begin, end, thread);
      },
      const_cast<void*>(static_cast<const void*>(&fn)));
}
}  // namespace internal

/// Calls fn(begin, end, thread) on disjoint contiguous ranges covering [0, n), one range a thread,
/// and returns when all are done. Empty ranges are not called. Calls from within fn run on the
/// calling thread. The same thread count gives the same split.
template <typename F>
void parallel(int64_t n, F&& fn) {
  internal::parallel(n, 0, fn);
}

/// The same with several ranges a thread, none of which reaches over a multiple of `grain`, for
/// work whose result does not depend on the split. n below 2^31.
template <typename F>
void parallel_balanced(int64_t n, int64_t grain, F&& fn) {
  internal::parallel(n, grain, fn);
}

/// Has the calling thread do `chore` at the start of its next `parallel_balanced`, whose other
/// threads make up for the time that takes; at once where there are none. A chore that still waits
/// is done first.
void do_beside_next(void (*chore)());

}  // namespace toolkit
