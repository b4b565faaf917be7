// The threads that share parallel regions, and how they share one.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/parallel.h"

namespace toolkit {

/// While it lives, what the thread calls in parallel it does alone.
class InsideRegion {
 public:
  InsideRegion();
  ~InsideRegion();
  static bool here();
};

/// What is left of a thread's range, which it takes from the front and others from the back. Both
/// ends share 64 bits.
class alignas(64) Share {
 public:
  void set(int64_t begin, int64_t end) { range_.store(pack(begin, end)); }

  /// Takes up to the next multiple of `grain`.
  bool take(int64_t grain, int64_t* begin, int64_t* end) {
    uint64_t seen = range_.load();
    do {
      *begin = first(seen);
      *end = last(seen);
      if (*begin == *end) return false;
      const int64_t next = (*begin / grain + 1) * grain;
      if (next < *end) *end = next;
    } while (!range_.compare_exchange_weak(seen, pack(*end, last(seen))));
    return true;
  }

  /// Takes the later half.
  bool steal(int64_t* begin, int64_t* end) {
    uint64_t seen = range_.load();
    do {
      *end = last(seen);
      *begin = first(seen) + (*end - first(seen)) / 2;
      if (*begin == *end) return false;
    } while (!range_.compare_exchange_weak(seen, pack(first(seen), *begin)));
    return true;
  }

 private:
  static uint64_t pack(int64_t begin, int64_t end) {
    return static_cast<uint64_t>(begin) << 32 | static_cast<uint64_t>(end);
  }
  static int64_t first(uint64_t range) { return static_cast<int64_t>(range >> 32); }
  static int64_t last(uint64_t range) { return static_cast<int64_t>(range & 0xffffffff); }

  std::atomic<uint64_t> range_{0};
};

class Pool {
 public:
  /// Starts count - 1 threads beside the caller's.
  explicit Pool(int count);
  ~Pool() { stop(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// One region over [first, first + n), where n fits in a Share or the grain is 0. The caller does
  /// the chore, if any, before its part.
  std::chrono::steady_clock::duration run(int64_t first, int64_t n, int64_t grain, void (*chore)(),
                                          internal::RangeFunction function, void* context);

  /// One over [0, n) that is so short that the caller does it alone where threads were late for
  /// another: then nothing is done here, and false returned.
  bool run_short(int64_t n, int64_t grain, internal::RangeFunction function, void* context);

 private:
  /// Where a thread's part begins, and the one before ends.
  int64_t part(int index) const { return n_ / size_ * index + n_ % size_ * index / size_; }

  /// Does the chore and a thread's part; keeps the first exception for the caller of the region.
  void work_on(int index, void (*chore)()) noexcept;
  void call(int index);
  bool steal(int index);
  void next_epoch();
  std::chrono::steady_clock::duration await_workers();
  void await_epoch(uint64_t seen);
  void work(int index);
  void stop();

  const int size_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> epoch_{0};
  std::atomic<int> pending_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> waiting_{false};
  std::condition_variable done_;
  bool stopping_ = false;
  internal::RangeFunction function_ = nullptr;
  void* context_ = nullptr;
  int64_t first_ = 0, n_ = 0, grain_ = 0;
  std::vector<Share> shares_;
  std::exception_ptr error_;
  std::chrono::steady_clock::time_point alone_until_;
};

}  // namespace toolkit
