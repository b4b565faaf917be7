// Regions that threads share, for kernels_probe.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <thread>
#include <utility>

#include "kernels/error.h"
#include "kernels/parallel.h"
#include "kernels/probe.h"

namespace toolkit {
namespace {
void sleep_ms(int64_t count) { std::this_thread::sleep_for(std::chrono::milliseconds(count)); }
}  // namespace

void share_work(const Words& words) {
  const int64_t count = integer(words[1]);
  std::vector<int> done(count, -1);
  const auto work = [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      if (done[i] != -1) throw Error("item " + std::to_string(i) + " was done twice");
      done[i] = thread;
      if (i < count / 2) sleep_ms(1);
    }
  };
  set_threads(int(integer(words[0])));
  if (words[2] == "short") {
    parallel_short(count, 1, work);
  } else if (words[2] == "0") {
    parallel(count, work);
  } else {
    parallel_balanced(count, integer(words[2]), work);
  }
  for (int thread : done) printf("%d\n", thread);
}

void ranges(const Words& words) {
  const int64_t n = integer(words[1]), grain = integer(words[2]);
  std::mutex mutex;
  std::vector<std::pair<int64_t, int64_t>> all;
  const auto work = [&](int64_t begin, int64_t end, int) {
    const std::lock_guard<std::mutex> lock(mutex);
    all.emplace_back(begin, end);
  };
  set_threads(int(integer(words[0])));
  grain > 0 ? parallel_balanced(n, grain, work) : parallel(n, work);
  std::sort(all.begin(), all.end());
  int64_t at = 0, longest = 0;
  for (const auto& [begin, end] : all) {
    if (begin != at || end <= begin) throw Error("a gap at " + std::to_string(at));
    if (grain > 0 && threads() > 1 && begin / grain != (end - 1) / grain)
      throw Error("a range over the grain");
    longest = std::max(longest, end - begin);
    at = end;
  }
  if (at != n) throw Error("the ranges end at " + std::to_string(at));
  printf("%zu %lld\n", all.size(), (long long)longest);
}

void chores(const Words& words) {
  static int done = 0;
  const auto chore = [] {
    sleep_ms(20);
    ++done;
  };
  std::atomic<int> others{0};
  const auto work = [&](int64_t begin, int64_t end, int thread) {
    sleep_ms(end - begin);
    if (thread != 0) others += int(end - begin);
  };
  set_threads(int(integer(words[0])));
  do_beside_next(chore);
  printf("asked %d\n", done);
  parallel(24, work);
  printf("static %d %d\n", done, others.exchange(0));
  parallel_short(24, 1, work);
  printf("short %d %d\n", done, others.exchange(0));
  parallel_balanced(24, 1, work);
  printf("balanced %d %d\n", done, others.exchange(0));
  parallel_balanced(24, 1, work);
  printf("again %d %d\n", done, others.exchange(0));
  do_beside_next(chore);
  do_beside_next(chore);
  printf("twice %d\n", done);
}

void late(const Words& words) {
  set_threads(int(integer(words[0])));
  std::atomic<bool> begun{false};
  parallel_short(24, 1, [&](int64_t, int64_t, int thread) {
    if (thread != 0 && !begun.exchange(true)) sleep_ms(5);
    while (!begun) std::this_thread::yield();
  });
  std::atomic<int> others{0};
  const auto work = [&](int64_t begin, int64_t end, int thread) {
    sleep_ms(end - begin);
    if (thread != 0) others += int(end - begin);
  };
  parallel_short(8, 1, work);
  const int at_once = others.exchange(0);
  parallel_balanced(8, 1, work);
  const int balanced = others.exchange(0);
  sleep_ms(30);
  parallel_short(8, 1, work);
  printf("%d %d %d\n", at_once, balanced, others.load());
}

}  // namespace toolkit
