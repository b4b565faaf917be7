// A small thread pool. Work is split evenly in advance; where a caller allows it, threads that are
// done take over what slower ones (small cores, cores that others use too) have not begun.
#pragma once

#include <cstdint>
#include <mutex>
#include <type_traits>

namespace toolkit {

/// Held while an operator runs: operators share the threads and the workspace.
std::unique_lock<std::mutex> exclusive_use();

/// Sets how many threads `parallel` uses, the caller included; below 1 means 1. Waits for a running
/// operator, so it must not be called by one. Throws Error, and leaves one thread, when the system
/// refuses to start them. set_threads(1) ends all threads but the caller.
void set_threads(int count);

/// Number of threads `parallel` uses; the hardware's count until `set_threads` was called.
int threads();

namespace internal {
using RangeFunction = void (*)(void* context, int64_t begin, int64_t end, int thread);
void run_parallel(int64_t n, int64_t grain, bool long_enough, RangeFunction function,
                  void* context);

template <typename F>
void parallel(int64_t n, int64_t grain, bool long_enough, F& fn) {
  using Callable = std::remove_reference_t<F>;
  run_parallel(
      n, grain, long_enough,
      [](void* context, int64_t begin, int64_t end, int thread) {
        (*static_cast<Callable*>(context))(begin, end, thread);
      },
      const_cast<void*>(static_cast<const void*>(&fn)));
}
}  // namespace internal

/// Calls fn(begin, end, thread) on disjoint contiguous ranges covering [0, n), one range a thread,
/// and returns when all are done. Empty ranges are not called. Calls from within fn run on the
/// calling thread. The same thread count gives the same split. What fn throws on any thread is
/// thrown here in the end.
template <typename F>
void parallel(int64_t n, F&& fn) {
  internal::parallel(n, 0, false, fn);
}

/// The same with several ranges a thread, none of which reaches over a multiple of `grain` (up to
/// 2^31) unless one thread does it all, for work whose result does not depend on the split.
template <typename F>
void parallel_balanced(int64_t n, int64_t grain, F&& fn) {
  internal::parallel(n, grain, true, fn);
}

/// The same for regions too short to make up for a chore, with about four ranges a thread, none of
/// less than `least` but the last.
template <typename F>
void parallel_short(int64_t n, int64_t least, F&& fn) {
  const int64_t grain = n / (4 * threads());
  internal::parallel(n, grain > least ? grain : least, false, fn);
}

/// Has the calling thread do `chore` at the start of its next `parallel_balanced`, whose other
/// threads make up for the time that takes; at once where there are none. A chore that still waits
/// is done first.
void do_beside_next(void (*chore)());

}  // namespace toolkit
