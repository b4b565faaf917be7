#include "kernels/parallel.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/error.h"

namespace toolkit {
namespace {

// Regions follow each other within microseconds, now and then within a millisecond (a block is
// mapped, a record is written), and waking a sleeping core takes tens of microseconds. So a thread
// that waits spins, then offers its core to others again and again, and only then sleeps. When
// somebody takes the offer, it costs their whole time slice, while a thread that sleeps is woken
// ahead of them: then, and for a while, threads that have spun sleep at once.
using Clock = std::chrono::steady_clock;
constexpr std::chrono::microseconds kSpin(60), kOffer(2000), kTaken(500);
constexpr std::chrono::milliseconds kBusy(100);
std::atomic<Clock::rep> busy_until{0};

void pause_cpu() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");  // waits tens of cycles; "yield" does nothing on most cores
#endif
}

/// Waits awake for a condition; returns whether it holds.
template <class Condition>
bool wait_awake(Condition condition) {
  const Clock::time_point begin = Clock::now();
  Clock::time_point now = begin;
  do {
    for (int i = 0; i < 16; ++i) {
      if (condition()) return true;
      pause_cpu();
    }
    now = Clock::now();
  } while (now < begin + kSpin);
  while (now < begin + kOffer && now.time_since_epoch().count() > busy_until.load()) {
    std::this_thread::yield();
    if (condition()) return true;
    const Clock::time_point before = now;
    now = Clock::now();
    if (now > before + kTaken) busy_until = (now + kBusy).time_since_epoch().count();
  }
  return condition();
}

thread_local bool inside_region = false;

/// While it lives, what the thread calls in parallel it does alone.
struct InsideRegion {
  InsideRegion() { inside_region = true; }
  ~InsideRegion() { inside_region = false; }
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

void (*waiting_chore)() = nullptr;

void do_chore() {
  const auto chore = std::exchange(waiting_chore, nullptr);
  if (chore == nullptr) return;
  const InsideRegion alone;  // the threads are taken
  chore();
}

class Pool {
 public:
  /// Starts count - 1 threads beside the caller's.
  explicit Pool(int count) : size_(count), shares_(count) {
    workers_.reserve(count - 1);
    try {
      for (int i = 1; i < count; ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (...) {
      stop();
      throw;
    }
  }
  ~Pool() { stop(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// One region over [first, first + n), where n fits in a Share or the grain is 0.
  void run(int64_t first, int64_t n, int64_t grain, void (*chore)(),
           internal::RangeFunction function, void* context) {
    first_ = first;
    n_ = n;
    function_ = function;
    context_ = context;
    grain_ = grain;
    if (grain > 0) {
      for (int i = 0; i < size_; ++i) shares_[i].set(part(i), part(i + 1));
    }
    pending_.store(size_ - 1, std::memory_order_relaxed);
    {
      // Taken so that a worker cannot check the epoch and fall asleep between the two steps below.
      std::lock_guard<std::mutex> lock(mutex_);
      epoch_.fetch_add(1, std::memory_order_release);
    }
    if (sleepers_.load() > 0) wake_.notify_all();
    work_on(0, chore);
    await_workers();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  /// Where a thread's part begins, and the one before ends.
  int64_t part(int index) const { return n_ / size_ * index + n_ % size_ * index / size_; }

  /// Does the chore and a thread's part; keeps the first exception for the caller of the region.
  void work_on(int index, void (*chore)()) noexcept {
    const InsideRegion inside;
    try {
      if (chore != nullptr) chore();
      call(index);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  void call(int index) {
    if (grain_ == 0) {
      const int64_t begin = part(index), end = part(index + 1);
      if (begin < end) function_(context_, begin, end, index);
      return;
    }
    int64_t begin, end;
    do {
      while (shares_[index].take(grain_, &begin, &end)) {
        function_(context_, first_ + begin, first_ + end, index);
      }
    } while (steal(index));
  }

  bool steal(int index) {
    for (int i = 1; i < size_; ++i) {
      int64_t begin, end;
      if (!shares_[(index + i) % size_].steal(&begin, &end)) continue;
      shares_[index].set(begin, end);
      return true;
    }
    return false;
  }

  void await_workers() {
    const auto done = [this] { return pending_.load() == 0; };
    if (wait_awake(done)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    waiting_ = true;
    done_.wait(lock, done);
    waiting_ = false;
  }

  void await_epoch(uint64_t seen) {
    const auto moved_on = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
    if (wait_awake(moved_on)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1);
    wake_.wait(lock, moved_on);
    sleepers_.fetch_sub(1);
  }

  void work(int index) {
    for (uint64_t seen = 0;;) {
      await_epoch(seen);
      seen = epoch_.load(std::memory_order_acquire);
      if (stopping_) return;
      work_on(index, nullptr);
      if (pending_.fetch_sub(1) == 1 && waiting_.load()) {
        std::lock_guard<std::mutex> lock(mutex_);
        done_.notify_one();
      }
    }
  }

  void stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      epoch_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

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
};

std::unique_ptr<Pool> pool;          // none: the caller works alone
std::atomic<int> wanted_threads{0};  // 0: not asked for yet

void start_threads(int count) {
  if (count == wanted_threads) return;
  pool.reset();
  wanted_threads = 1;
  try {
    if (count > 1) pool = std::make_unique<Pool>(count);
  } catch (const std::system_error& error) {
    throw Error("cannot start " + std::to_string(count) + " threads: " + error.code().message() +
                ". Use fewer threads");
  }
  wanted_threads = count;
}

}  // namespace

std::unique_lock<std::mutex> exclusive_use() {
  static std::mutex mutex;
  return std::unique_lock<std::mutex>(mutex);
}

void do_beside_next(void (*chore)()) {
  do_chore();
  if (threads() == 1) {
    chore();
  } else {
    waiting_chore = chore;
  }
}

void set_threads(int count) {
  const auto lock = exclusive_use();
  start_threads(count < 1 ? 1 : count);
}

int threads() {
  const int wanted = wanted_threads;
  if (wanted > 0) return wanted;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return cores > 0 ? cores : 1;
}

void internal::run_parallel(int64_t n, int64_t grain, bool long_enough, RangeFunction function,
                            void* context) {
  constexpr int64_t kMost = int64_t{1} << 31;  // what a Share holds
  if (n <= 0) return;
  if (inside_region || threads() == 1) return function(context, 0, n, 0);
  start_threads(threads());
  if (grain == 0) return pool->run(0, n, 0, nullptr, function, context);
  if (grain > kMost) throw std::logic_error("the grain of a parallel region is too large");
  const int64_t most = kMost / grain * grain;
  for (int64_t first = 0; first < n; first += most) {
    const auto chore = long_enough ? std::exchange(waiting_chore, nullptr) : nullptr;
    pool->run(first, n - first < most ? n - first : most, grain, chore, function, context);
  }
}

}  // namespace toolkit
