// Runs the kernels and what they stand on without ExecuTorch, for tests.
//   kernels_probe kernels COUNT...  every kernel on odd shapes, on all instruction sets, in
//     float32, then those with products in fixed16, with one thread and with so many; out: "isa
//     arithmetic" of each
//   kernels_probe products          products of both directions in fixed16; out: "isa digest" of
//     what each instruction set gave, the same on all processors
//   kernels_probe threads COUNT ITEMS GRAIN   the first half of the items takes 1 ms each, the rest
//     nothing; out: which thread did each. GRAIN 0 splits in advance, "short" is parallel_short
//   kernels_probe ranges COUNT N GRAIN        out: "ranges, the longest" of a region over [0, N)
//   kernels_probe chores COUNT      regions of 24 items of 1 ms with a chore of 20 ms waiting; out:
//     "moment chores done, items of other threads"
//   kernels_probe late COUNT        out: how many of 8 items of 1 ms others did, in a short region
//     after one whose caller had to wait for others, in a balanced one, in a short one 30 ms later
//   kernels_probe throws COUNT      a region whose items of one thread throw; out: what the caller
//     caught, and how many items another region did afterwards
//   kernels_probe refused COUNT     starts more threads than the address space has room for, twice;
//     out: the errors, then the threads that are left, and those after room was made for 3
//   kernels_probe scratch           scratch without room for it; out: the error, then the bytes
//   held kernels_probe overrun BYTES PLACE   writes one byte at PLACE of the first of two pieces of
//     scratch of so many BYTES; under the address sanitizer that ends the process unless the byte
//     is one of them
//   kernels_probe give_back         out: "threads of the process, bytes of scratch" after work with
//     4 threads, and after both were given back; then how much less is resident, in KiB
//   kernels_probe sweeps TOKENS...  out: "isa tokens counted promised" sweeps of the head
#include "kernels/probe.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "kernels/kernels.h"
#include "kernels/parallel.h"
#include "kernels/release.h"
#include "kernels/tiles.h"
#include "kernels/workspace.h"

namespace toolkit {
namespace {

std::vector<const char*> available_isas() {
  std::vector<const char*> result;
  for (const char* isa : {"plain", "avx2", "avx512", "neon"}) {
    if (kernels_for(isa) != nullptr) result.push_back(isa);
  }
  return result;
}

/// A field of /proc/self/status, e.g. "Threads:"; sizes in KiB.
int64_t status_of(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(field, 0) == 0) return integer(line.substr(field.size()));
  }
  throw Error("no " + field);
}

/// Leaves room for so many more bytes of address space; a negative number lifts the limit.
void limit_memory(int64_t room) {
  rlimit limit;
  getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = room < 0 ? limit.rlim_max : rlim_t(status_of("VmSize:") * 1024 + room);
  setrlimit(RLIMIT_AS, &limit);
}

template <typename Body>
std::string error_of(Body body) {
  try {
    body();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "none";
}

void run_kernels(const Words& words) {
  std::vector<int> counts;
  for (const std::string& word : words) counts.push_back(int(integer(word)));

  for (const char* isa : available_isas()) check_kernels(isa, "float32", counts);
  for (const Tiles* tiles : kAllTiles) check_kernels(tiles->isa, "fixed16", counts);
}

void throws(const Words& words) {
  const int count = int(integer(words[0]));
  set_threads(count);
  for (int thrower = 0; thrower < count; ++thrower) {
    const auto work = [&](int64_t, int64_t, int thread) {
      if (thread == thrower) throw Error("thread " + std::to_string(thread));
    };
    const std::string error = error_of([&] { parallel(count, work); });
    std::atomic<int64_t> items{0};
    parallel_balanced(100, 1, [&](int64_t begin, int64_t end, int) { items += end - begin; });
    printf("%s: %lld\n", error.c_str(), (long long)items.load());
  }
}

/// How many threads take part in a region.
int64_t participants() {
  std::atomic<int64_t> count{0};
  parallel(threads(), [&](int64_t, int64_t, int) { ++count; });
  return count;
}

void refused(const Words& words) {
  limit_memory(64 << 20);
  for (int i = 0; i < 2; ++i) {
    printf("%s\n", error_of([&] { set_threads(int(integer(words[0]))); }).c_str());
    printf("%d %lld\n", threads(), (long long)participants());
  }
  limit_memory(-1);
  set_threads(3);
  printf("%d %lld\n", threads(), (long long)participants());
}

void scratch(const Words&) {
  const auto take = [] {
    Scratch outer;
    outer.floats(1 << 10);
    Scratch inner;
    inner.floats(64 << 20);
  };
  for (int64_t room : {16 << 20, -1}) {
    limit_memory(room);
    const std::string error = error_of(take);
    printf("%s\n%zu\n", error.c_str(), workspace_bytes());
  }
}

void overrun(const Words& words) {
  const int64_t bytes = integer(words[0]);
  Scratch outer;
  volatile char* first = static_cast<char*>(outer.bytes(bytes));
  outer.bytes(bytes);
  first[integer(words[1])] = 1;
}

void give_back(const Words&) {
  set_threads(4);
  participants();
  {
    Scratch scratch;
    memset(scratch.floats(1 << 20), 1, 4 << 20);
  }
  printf("%lld %zu\n", (long long)status_of("Threads:"), workspace_bytes());
  const int64_t before = status_of("RssAnon:");
  set_threads(1);
  workspace_trim();
  printf("%lld %zu\n", (long long)status_of("Threads:"), workspace_bytes());
  printf("%lld\n", (long long)(before - status_of("RssAnon:")));
}

int64_t released = 0;

void sweeps(const Words& words) {
  constexpr int64_t kDepth = 32, kClasses = 16;
  const std::vector<uint8_t> codes(kDepth * kClasses / 2, 0x5a);
  const std::vector<uint16_t> scale(kClasses, 0x2c00);
  const QuantizedMatrix w{codes.data(), scale.data(), nullptr, kClasses, kDepth, 4};
  static const uint8_t* begin = codes.data();
  static const uint8_t* end = begin + codes.size();
  set_release_hook([](const void* data, size_t bytes, bool rest) {
    if (data >= begin && data < end && !rest) released += int64_t(bytes);
  });
  for (const char* isa : available_isas()) {
    for (const std::string& word : words) {
      const int64_t tokens = integer(word);
      const std::vector<float> x(tokens * kDepth, 0.5f);
      const std::vector<int32_t> labels(tokens, 1);
      float loss = 0;
      released = 0;
      kernels_for(isa)->cross_entropy(x.data(), labels.data(), tokens, w, kClasses, &loss, nullptr);
      printf("%s %lld %lld %lld\n", isa, (long long)tokens,
             (long long)(released / int64_t(codes.size())),
             (long long)kernels_for(isa)->head_sweeps(tokens));
    }
  }
}

int run(const std::string& part, const Words& words) {
  static const struct {
    const char* name;
    size_t words;
    void (*run)(const Words&);
  } parts[] = {
      {"kernels", 1, run_kernels}, {"threads", 3, share_work}, {"ranges", 3, ranges},
      {"chores", 1, chores},       {"late", 1, late},          {"throws", 1, throws},
      {"refused", 1, refused},     {"scratch", 0, scratch},    {"give_back", 0, give_back},
      {"sweeps", 1, sweeps},       {"overrun", 2, overrun},    {"products", 0, print_products}};
  for (const auto& row : parts) {
    if (part != row.name || words.size() < row.words) continue;
    row.run(words);
    return 0;
  }
  fprintf(stderr, "error: see the head of probe.cc\n");
  return 2;
}

}  // namespace
}  // namespace toolkit

int main(int argc, char** argv) {
  try {
    return toolkit::run(argc > 1 ? argv[1] : "", {argv + (argc > 1 ? 2 : 1), argv + argc});
  } catch (const std::exception& error) {
    fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
