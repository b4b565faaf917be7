#include "kernels/parallel.h"

#include <atomic>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "kernels/dry_run.h"
#include "kernels/error.h"
#include "kernels/pool.h"

namespace toolkit {
namespace {

void (*waiting_chore)() = nullptr;

void do_chore() {
  const auto chore = std::exchange(waiting_chore, nullptr);
  if (chore == nullptr) return;
  const InsideRegion alone;  // the threads are taken
  chore();
}

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
  if (const DryRun* dry = DryRun::current()) return dry->threads();
  const int wanted = wanted_threads;
  if (wanted > 0) return wanted;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return cores > 0 ? cores : 1;
}

void internal::run_parallel(int64_t n, int64_t grain, bool long_enough, RangeFunction function,
                            void* context) {
  constexpr int64_t kMost = int64_t{1} << 31;  // what a Share holds
  if (n <= 0 || DryRun::current() != nullptr) return;
  if (InsideRegion::here() || threads() == 1) return function(context, 0, n, 0);
  start_threads(threads());
  if (grain == 0) {
    pool->run(0, n, 0, nullptr, function, context);
    return;
  }
  if (grain > kMost) throw std::logic_error("the grain of a parallel region is too large");
  if (!long_enough && n <= kMost) {
    if (pool->run_short(n, grain, function, context)) return;
    const InsideRegion alone;
    return function(context, 0, n, 0);
  }
  const int64_t most = kMost / grain * grain;
  for (int64_t first = 0; first < n; first += most) {
    const auto chore = long_enough ? std::exchange(waiting_chore, nullptr) : nullptr;
    pool->run(first, n - first < most ? n - first : most, grain, chore, function, context);
  }
}

}  // namespace toolkit
