// Runs single parts of the engine on plain numbers, for tests that compare them with their
// references.
//   trainer_probe schedule NAME WARMUP TOTAL            factors, one a line
//   trainer_probe sampler SAMPLES SEED ORDER COUNT [POSITION]
//   trainer_probe optimizer NAME LR DECAY BETA1 BETA2 EPS MOMENTUM CLIP COUNT STEPS < floats >
//   floats
//     in: values, then each step's gradients; out: values, norm (0 without clipping) after each
//     step
//   trainer_probe tensors FILE.ptd                      "key type [sizes] offset" a line
//   trainer_probe state save|load PATH SEED             a small state, made from SEED
//   trainer_probe safetensors PATH                      two small tensors
//   trainer_probe json TEXT NUMBER
//   trainer_probe crc32 OFFSET < bytes >                their checksum: by the processor's
//     instructions, by tables, in two parts
//   trainer_probe finite COUNT < floats >               1 if all are numbers
//   trainer_probe mapping FILE OFFSET BYTES whole|rows  "address flags" of a mapped tensor
//   trainer_probe prefetcher FILE keep|drop STAGE READ SWEEPS  plans stages of STAGE bytes, the
//   last
//     in stride so many times, then obeys lines "begin N" and "used BYTES"
//   trainer_probe threads COUNT ITEMS GRAIN             the first half of the items takes 1 ms
//     each, the rest nothing; out: which thread did each. GRAIN 0 splits in advance
//   trainer_probe chores COUNT                          regions of 24 items of 1 ms with a chore of
//     20 ms waiting; out: "moment chores done, items of other threads"
#include <fcntl.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "kernels/parallel.h"
#include "trainer/adapter.h"
#include "trainer/crc32.h"
#include "trainer/error.h"
#include "trainer/finite.h"
#include "trainer/json.h"
#include "trainer/optimizer.h"
#include "trainer/sampler.h"
#include "trainer/schedule.h"
#include "trainer/state.h"
#include "trainer/weights.h"

namespace toolkit {
namespace {

using Words = std::vector<std::string>;

int64_t integer(const std::string& word) { return atoll(word.c_str()); }
double number(const std::string& word) { return atof(word.c_str()); }

void schedule(const Words& words) {
  for (int64_t step = 0; step < integer(words[2]); ++step) {
    printf("%.17g\n",
           schedule_factor(schedule_from(words[0]), step, integer(words[1]), integer(words[2])));
  }
}

void sampler(const Words& words) {
  const int64_t position = words.size() > 4 ? integer(words[4]) : 0;
  Sampler order(integer(words[0]), uint64_t(integer(words[1])), order_from(words[2]), position);
  for (int64_t i = 0; i < integer(words[3]); ++i) printf("%lld\n", (long long)order.next());
}

void read_floats(float* values, size_t count) {
  if (fread(values, sizeof(float), count, stdin) != count) fail("stdin ended early");
}

void optimizer(const Words& words) {
  OptimizerSettings settings;
  settings.name = words[0];
  const double lr = number(words[1]), clip = number(words[7]);
  settings.weight_decay = number(words[2]);
  settings.beta1 = number(words[3]);
  settings.beta2 = number(words[4]);
  settings.eps = number(words[5]);
  settings.momentum = number(words[6]);
  const size_t count = size_t(integer(words[8]));
  std::vector<float> values(count), gradient(count);
  const auto rule = make_optimizer(settings, count);
  read_floats(values.data(), count);
  for (int64_t step = 1; step <= integer(words[9]); ++step) {
    read_floats(gradient.data(), count);
    float norm = 0;
    if (clip > 0) {
      norm = float(std::sqrt(sum_of_squares(gradient.data(), count)));
      for (float& g : gradient) g *= float(clip_factor(norm, clip));
    }
    // In two pieces, as the engine updates layer by layer.
    const size_t half = count / 2;
    rule->update(values.data(), gradient.data(), 0, half, lr, step);
    rule->update(values.data() + half, gradient.data() + half, half, count - half, lr, step);
    fwrite(values.data(), sizeof(float), count, stdout);
    fwrite(&norm, sizeof(float), 1, stdout);
  }
}

void tensors(const Words& words) {
  const FlatTensorFile file(words[0]);
  for (const auto& [key, spec] : file.tensors()) {
    printf("%s %s %lld\n", key.c_str(), describe(spec.type, spec.sizes).c_str(),
           (long long)spec.offset);
  }
}

void state(const Words& words) {
  constexpr int64_t kFloats = 1000;
  const int64_t seed = integer(words[2]);
  const std::vector<Field> identity = {{"data", "some hash"}, {"seed", "7"}};
  std::vector<float> memory[3];
  std::vector<StateArray> arrays;
  for (const char* name : {"adapter", "first_moment", "second_moment"}) {
    std::vector<float>& values = memory[arrays.size()];
    values.resize(kFloats + int64_t(arrays.size()));
    arrays.push_back({name, "float32", int64_t(values.size()), values.data()});
  }
  const auto value = [&](int array, size_t i) { return float(seed * 3 + array) + float(i) / 1024; };
  if (words[0] == "save") {
    for (int a = 0; a < 3; ++a) {
      for (size_t i = 0; i < memory[a].size(); ++i) memory[a][i] = value(a, i);
    }
    save_state(words[1], {seed, 42, identity, {{"lr", "0.1"}}}, arrays);
    return;
  }
  const RunState state = load_state(words[1], identity, arrays);
  for (int a = 0; a < 3; ++a) {
    for (size_t i = 0; i < memory[a].size(); ++i) {
      if (memory[a][i] != value(a, i)) fail("array %d differs at %zu", a, i);
    }
  }
  printf("%lld %lld %s\n", (long long)state.step, (long long)state.position,
         find_field(state.settings, "lr")->c_str());
}

/// The checksum of stdin, which begins at OFFSET of a word so that reads are not aligned.
void checksum(const Words& words) {
  std::vector<char> data(size_t(integer(words[0])));
  char byte;
  while (fread(&byte, 1, 1, stdin) == 1) data.push_back(byte);
  const char* begin = data.data() + integer(words[0]);
  const size_t bytes = data.size() - size_t(integer(words[0]));
  const size_t half = bytes / 3;
  printf("%u %u %u\n", crc32(0, begin, bytes), crc32_by_tables(0, begin, bytes),
         crc32(crc32(0, begin, half), begin + half, bytes - half));
}

void finite(const Words& words) {
  const size_t count = size_t(integer(words[0]));
  std::vector<float> values(count);
  read_floats(values.data(), count);
  printf("%d\n", all_finite(values.data(), count));
}

void safetensors(const Words& words) {
  std::vector<float> a(6), b(3);
  for (size_t i = 0; i < a.size(); ++i) a[i] = float(i) - 2.5f;
  for (size_t i = 0; i < b.size(); ++i) b[i] = 1.0f / float(i + 3);
  write_safetensors(words[0], {{"first.weight", {2, 3}, a.data()}, {"b", {3, 1}, b.data()}});
}

void json(const Words& words) {
  puts(Json().field("text", words[0]).field("number", number(words[1])).str().c_str());
}

void mapping(const Words& words) {
  const File file(words[0], O_RDONLY);
  const std::vector<WeightRef> refs = {{integer(words[1]), integer(words[2])}};
  const Access access = words[3] == "rows" ? Access::rows : Access::whole;
  const WeightMapping weights(file, refs, nullptr, access);
  const auto address = reinterpret_cast<unsigned long long>(weights.data(0));
  std::ifstream maps("/proc/self/smaps");
  bool within = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long long begin, end;
    if (sscanf(line.c_str(), "%llx-%llx ", &begin, &end) == 2) {
      within = address >= begin && address < end;
    } else if (within && line.rfind("VmFlags:", 0) == 0) {
      printf("%llu %s\n", address, line.c_str());
    }
  }
}

void prefetcher(const Words& words) {
  const File file(words[0], O_RDONLY);
  const int64_t stage = integer(words[2]);
  std::vector<WeightStage> stages;
  for (int64_t at = 0; at + stage <= file.size(); at += stage) stages.push_back({{{at, stage}}});
  stages.back().in_stride = true;
  stages.back().sweeps = integer(words[4]);
  Prefetcher reader(file, page_cache_from(words[1]), integer(words[3]));
  reader.plan(stages);
  std::string word;
  for (int64_t value; std::cin >> word >> value;) {
    word == "begin" ? reader.begin(size_t(value)) : reader.used(value);
  }
}

void share_work(const Words& words) {
  const int64_t count = integer(words[1]), grain = integer(words[2]);
  std::vector<int> done(count, -1);
  const auto work = [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      if (done[i] != -1) fail("item %lld was done twice", (long long)i);
      done[i] = thread;
      if (i < count / 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  };
  set_threads(int(integer(words[0])));
  grain > 0 ? parallel_balanced(count, grain, work) : parallel(count, work);
  for (int thread : done) printf("%d\n", thread);
}

void chores(const Words& words) {
  static int done = 0;
  const auto chore = [] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ++done;
  };
  std::atomic<int> others{0};
  const auto work = [&](int64_t begin, int64_t end, int thread) {
    std::this_thread::sleep_for(std::chrono::milliseconds(end - begin));
    if (thread != 0) others += int(end - begin);
  };
  set_threads(int(integer(words[0])));
  do_beside_next(chore);
  printf("asked %d\n", done);
  parallel(24, work);
  printf("static %d %d\n", done, others.exchange(0));
  parallel_balanced(24, 1, work);
  printf("balanced %d %d\n", done, others.exchange(0));
  parallel_balanced(24, 1, work);
  printf("again %d %d\n", done, others.exchange(0));
  do_beside_next(chore);
  do_beside_next(chore);
  printf("twice %d\n", done);
}

int run(const std::string& part, const Words& words) {
  static const struct {
    const char* name;
    size_t words;
    void (*run)(const Words&);
  } parts[] = {
      {"schedule", 3, schedule}, {"sampler", 4, sampler},       {"optimizer", 10, optimizer},
      {"tensors", 1, tensors},   {"state", 3, state},           {"safetensors", 1, safetensors},
      {"json", 2, json},         {"crc32", 1, checksum},        {"finite", 1, finite},
      {"mapping", 4, mapping},   {"prefetcher", 5, prefetcher}, {"threads", 3, share_work},
      {"chores", 1, chores}};
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
  } catch (const toolkit::Error& error) {
    fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
