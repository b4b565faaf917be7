#include "kernels/pool.h"

#include <chrono>
#include <utility>

namespace toolkit {
namespace {

using Clock = std::chrono::steady_clock;

thread_local bool inside_region = false;

// Regions follow each other within microseconds, now and then within a millisecond (a block is
// mapped, a record is written), and waking a sleeping core takes tens of microseconds. So a thread
// that waits spins, then offers its core to others again and again, and only then sleeps. When
// somebody takes the offer, it costs their whole time slice, while a thread that sleeps is woken
// ahead of them: then, and for a while, threads that have spun sleep at once.
constexpr std::chrono::microseconds kSpin(60), kOffer(2000), kTaken(500);
constexpr std::chrono::milliseconds kBusy(100);
std::atomic<Clock::rep> busy_until{0};
// When somebody else has a core, a thread that lost it in a region keeps the caller waiting for a
// time slice, which may be hundreds of short regions. Where that is most of a region's time, the
// caller does them alone for a while.
constexpr std::chrono::microseconds kLate(250);
constexpr std::chrono::milliseconds kAlone(20);

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

}  // namespace

InsideRegion::InsideRegion() { inside_region = true; }
InsideRegion::~InsideRegion() { inside_region = false; }
bool InsideRegion::here() { return inside_region; }

Pool::Pool(int count) : size_(count), shares_(count) {
  workers_.reserve(count - 1);
  try {
    for (int i = 1; i < count; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (...) {
    stop();
    throw;
  }
}

bool Pool::run_short(int64_t n, int64_t grain, internal::RangeFunction function, void* context) {
  if (alone_until_ > Clock::time_point()) {
    if (Clock::now() < alone_until_) return false;
    alone_until_ = {};
  }
  // Threads that have to be woken are late without anybody's fault.
  const bool awake = sleepers_.load() == 0;
  const Clock::time_point begin = Clock::now();
  const Clock::duration waited = run(0, n, grain, nullptr, function, context);
  const Clock::time_point end = Clock::now();
  if (awake && waited > kLate && 3 * waited > 2 * (end - begin)) alone_until_ = end + kAlone;
  return true;
}

Clock::duration Pool::run(int64_t first, int64_t n, int64_t grain, void (*chore)(),
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
  next_epoch();
  work_on(0, chore);
  const Clock::duration waited = await_workers();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  return waited;
}

// A worker counts itself as a sleeper before it checks the epoch a last time. So either it is seen
// here, and holds the mutex until it sleeps, or it sees the new epoch.
void Pool::next_epoch() {
  epoch_.fetch_add(1);
  if (sleepers_.load() == 0) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
  }
  wake_.notify_all();
}

void Pool::work_on(int index, void (*chore)()) noexcept {
  const InsideRegion inside;
  try {
    if (chore != nullptr) chore();
    call(index);
  } catch (...) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void Pool::call(int index) {
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

bool Pool::steal(int index) {
  for (int i = 1; i < size_; ++i) {
    int64_t begin, end;
    if (!shares_[(index + i) % size_].steal(&begin, &end)) continue;
    shares_[index].set(begin, end);
    return true;
  }
  return false;
}

Clock::duration Pool::await_workers() {
  const auto done = [this] { return pending_.load() == 0; };
  const Clock::time_point begin = Clock::now();
  if (!wait_awake(done)) {
    std::unique_lock<std::mutex> lock(mutex_);
    waiting_ = true;
    done_.wait(lock, done);
    waiting_ = false;
  }
  return Clock::now() - begin;
}

void Pool::await_epoch(uint64_t seen) {
  const auto moved_on = [&] { return epoch_.load() != seen; };
  if (wait_awake(moved_on)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1);
  wake_.wait(lock, moved_on);
  sleepers_.fetch_sub(1);
}

void Pool::work(int index) {
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

void Pool::stop() {
  stopping_ = true;
  next_epoch();
  for (std::thread& worker : workers_) worker.join();
}

}  // namespace toolkit
