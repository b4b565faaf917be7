#include "kernels/parallel.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

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

/// What is left of a thread's range, which it takes from the front and others from the back.
class alignas(64) Share {
 public:
  void set(int64_t begin, int64_t end) { range_.store(pack(begin, end)); }

  /// Takes up to the next multiple of `grain`, everything if it is 0.
  bool take(int64_t grain, int64_t* begin, int64_t* end) {
    uint64_t seen = range_.load();
    do {
      *begin = first(seen);
      *end = last(seen);
      if (*begin == *end) return false;
      const int64_t next = grain > 0 ? (*begin / grain + 1) * grain : *end;
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
  if (waiting_chore == nullptr) return;
  const auto chore = waiting_chore;
  waiting_chore = nullptr;
  inside_region = true;  // the threads are taken
  chore();
  inside_region = false;
}

class Pool {
 public:
  ~Pool() { resize(1); }

  int size() const { return size_; }

  void resize(int count) {
    count = count < 1 ? 1 : count;
    if (count == size_) return;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      epoch_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    stopping_ = false;
    size_ = count;
    shares_ = std::vector<Share>(count);
    const uint64_t seen = epoch_.load(std::memory_order_relaxed);
    for (int i = 1; i < count; ++i) workers_.emplace_back([this, i, seen] { work(i, seen); });
  }

  void run(int64_t n, int64_t grain, internal::RangeFunction function, void* context) {
    function_ = function;
    context_ = context;
    grain_ = grain;
    for (int i = 0; i < size_; ++i) shares_[i].set(n * i / size_, n * (i + 1) / size_);
    pending_.store(size_ - 1, std::memory_order_relaxed);
    {
      // Taken so that a worker cannot check the epoch and fall asleep between the two steps below.
      std::lock_guard<std::mutex> lock(mutex_);
      epoch_.fetch_add(1, std::memory_order_release);
    }
    if (sleepers_.load() > 0) wake_.notify_all();
    if (grain > 0) do_chore();
    call(0);
    const auto done = [this] { return pending_.load() == 0; };
    if (wait_awake(done)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    waiting_ = true;
    done_.wait(lock, done);
    waiting_ = false;
  }

 private:
  void call(int index) {
    inside_region = true;
    int64_t begin, end;
    do {
      while (shares_[index].take(grain_, &begin, &end)) function_(context_, begin, end, index);
    } while (grain_ > 0 && steal(index));
    inside_region = false;
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

  void await_epoch(uint64_t seen) {
    const auto moved_on = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
    if (wait_awake(moved_on)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1);
    wake_.wait(lock, moved_on);
    sleepers_.fetch_sub(1);
  }

  void work(int index, uint64_t seen) {
    for (;;) {
      await_epoch(seen);
      seen = epoch_.load(std::memory_order_acquire);
      if (stopping_) return;
      call(index);
      if (pending_.fetch_sub(1) == 1 && waiting_.load()) {
        std::lock_guard<std::mutex> lock(mutex_);
        done_.notify_one();
      }
    }
  }

  int size_ = 1;
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
  int64_t grain_ = 0;
  std::vector<Share> shares_;
};

Pool& pool() {
  static Pool instance;
  return instance;
}

int requested_threads = 0;

}  // namespace

void do_beside_next(void (*chore)()) {
  do_chore();
  if (threads() == 1) {
    chore();
  } else {
    waiting_chore = chore;
  }
}

void set_threads(int count) {
  requested_threads = count < 1 ? 1 : count;
  pool().resize(requested_threads);
}

int threads() {
  if (requested_threads == 0) set_threads(static_cast<int>(std::thread::hardware_concurrency()));
  return requested_threads;
}

void internal::run_parallel(int64_t n, int64_t grain, RangeFunction function, void* context) {
  if (n <= 0) return;
  if (inside_region || threads() == 1) {
    function(context, 0, n, 0);
  } else {
    pool().run(n, grain, function, context);
  }
}

}  // namespace toolkit
