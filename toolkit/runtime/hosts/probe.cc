// Runs single parts of the engine on plain numbers, for tests that compare them with their
// references.
//   trainer_probe schedule NAME WARMUP TOTAL FLOOR      factors, one a line
//   trainer_probe sampler SAMPLES SEED ORDER COUNT [POSITION]
//   trainer_probe optimizer ROWS COLUMNS STEPS [OPTION=VALUE..] < floats > floats
//     in: values, then each step's gradients; out: values, norm (0 without clipping) after each
//     step
//   trainer_probe element-ranges THREADS COUNT          "begin end" of the ranges an optimizer's
//     tensor of so many elements is updated in
//   trainer_probe tensors FILE.ptd                      "key type [sizes] offset" a line
//   trainer_probe state save|load PATH SEED             a small state, made from SEED
//   trainer_probe safetensors PATH                      two small tensors
//   trainer_probe json TEXT NUMBER
//   trainer_probe crc32 OFFSET < bytes >                their checksum: by the processor's
//     instructions, by tables, in two parts
//   trainer_probe finite COUNT < floats >               1 if all are numbers
//   trainer_probe choose COUNT TEMPERATURE PENALTY < logits >  the token that follows token 0
//   trainer_probe mapping FILE OFFSET BYTES whole|rows  "address flags" of a mapped tensor
//   trainer_probe prefetcher FILE keep|drop STAGE READ SWEEPS  plans stages of STAGE bytes, the
//   last
//     in stride so many times, then obeys lines "begin N", "used BYTES", "touch BYTES" (reads them
//     through a mapping) and "plan 0" (plans again; out: whether it reads or rests)
//   trainer_probe empty-stages FILE keep|drop           the same for four stages: no weights, half
//     of the file, a weight of no bytes, no weights
#include "hosts/probe.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <mutex>
#include <string>
#include <vector>

#include "engine/error.h"
#include "engine/files/crc32.h"
#include "engine/files/json.h"
#include "engine/generation/sampler.h"
#include "engine/memory/weights.h"
#include "engine/model/adapter.h"
#include "engine/model/finite.h"
#include "engine/runtime.h"
#include "engine/training/norms.h"
#include "engine/training/optimizers/optimizer.h"
#include "engine/training/options.h"
#include "engine/training/sampler.h"
#include "engine/training/schedule.h"
#include "engine/training/state.h"

namespace toolkit::probe {

int64_t integer(const std::string& word) { return atoll(word.c_str()); }
double number(const std::string& word) { return atof(word.c_str()); }

namespace {

void schedule(const Words& words) {
  for (int64_t step = 0; step < integer(words[2]); ++step) {
    printf("%.17g\n", schedule_factor(schedule_from(words[0]), step, integer(words[1]),
                                      integer(words[2]), number(words[3])));
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

// Options of `train` from NAME=VALUE words.
Options options_of(const Words& words, size_t first) {
  std::vector<OptionValue> values = {{"bundle", "."}, {"data", "."}, {"out", "."}, {"steps", "1"}};
  for (size_t i = first; i < words.size(); ++i) {
    const size_t equals = words[i].find('=');
    values.push_back({words[i].substr(0, equals), words[i].substr(equals + 1)});
  }
  return parse_options(Command::train, values);
}

void optimizer(const Words& words) {
  const Options options = options_of(words, 3);
  const Shape shape = {integer(words[0]), integer(words[1])};
  const auto rule = optimizer_row(options.optimizer).make(options);
  std::vector<std::vector<char>> memory;
  std::vector<void*> states;
  for (const StateSpec& spec : rule->states(shape)) memory.emplace_back(size_t(held_bytes(spec)));
  for (std::vector<char>& state : memory) states.push_back(state.data());
  const size_t count = size_t(shape.count());
  std::vector<float> values(count), gradient(count);
  read_floats(values.data(), count);
  const std::string name = "layers.0.q_proj.lora_A.weight";
  const TrainedTensor tensor = {name, 0, shape, values.data(), states.data()};
  rule->initialize(tensor);
  for (int64_t step = 1; step <= integer(words[2]); ++step) {
    read_floats(gradient.data(), count);
    float norm = 0;
    if (options.max_grad_norm > 0) {
      norm = float(std::sqrt(sum_of_squares(gradient.data(), count)));
      for (float& g : gradient) g *= float(clip_factor(norm, options.max_grad_norm));
    }
    rule->update(tensor, gradient.data(), {options.lr, step});
    fwrite(values.data(), sizeof(float), count, stdout);
    fwrite(&norm, sizeof(float), 1, stdout);
  }
}

void element_ranges(const Words& words) {
  Runtime runtime(integer(words[0]));
  std::mutex mutex;
  each_range(integer(words[1]), [&](int64_t begin, int64_t end) {
    std::lock_guard<std::mutex> lock(mutex);
    printf("%lld %lld\n", (long long)begin, (long long)end);
  });
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
    arrays.push_back({name, "layers.0 a\n%20", "float32", int64_t(values.size()), values.data()});
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

void choose(const Words& words) {
  std::vector<float> logits(size_t(integer(words[0])));
  read_floats(logits.data(), logits.size());
  Sampling sampling;
  sampling.temperature = number(words[1]);
  sampling.repetition_penalty = number(words[2]);
  printf("%d\n", TokenSampler().choose(sampling, logits.data(), integer(words[0]), {0}, 1));
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
  Runtime runtime(1);
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

// Reads the first bytes of a file through a mapping, as the kernels do.
void touch(const File& file, int64_t bytes) {
  void* data = mmap(nullptr, size_t(bytes), PROT_READ, MAP_SHARED, file.fd(), 0);
  for (int64_t i = 0; i < bytes; i += 4096) static_cast<volatile char*>(data)[i];
  munmap(data, size_t(bytes));
}

// Obeys lines of stdin until it ends.
void obey(Prefetcher& reader, const File& file, const std::vector<WeightStage>& stages) {
  reader.plan(stages);
  std::string word;
  for (int64_t value; std::cin >> word >> value;) {
    if (word == "begin") reader.begin(size_t(value));
    if (word == "used") reader.used(value);
    if (word == "touch") touch(file, value);
    if (word == "plan") {
      reader.plan(stages);
      printf("%s\n", reader.reads() ? "reads" : "rests");
      fflush(stdout);
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
  obey(reader, file, stages);
}

void empty_stages(const Words& words) {
  const File file(words[0], O_RDONLY);
  const int64_t half = file.size() / 2;
  Prefetcher reader(file, page_cache_from(words[1]));
  obey(reader, file, {{{}}, {{{0, half}, {half, 0}}}, {{{half, 0}}, true, 2}, {{}, true}});
}

int run(const std::string& name, const Words& words) {
  std::vector<Part> parts = {{"schedule", 4, schedule},
                             {"sampler", 4, sampler},
                             {"optimizer", 3, optimizer},
                             {"tensors", 1, tensors},
                             {"state", 3, state},
                             {"safetensors", 1, safetensors},
                             {"json", 2, json},
                             {"crc32", 1, checksum},
                             {"finite", 1, finite},
                             {"choose", 3, choose},
                             {"mapping", 4, mapping},
                             {"prefetcher", 5, prefetcher},
                             {"empty-stages", 2, empty_stages},
                             {"element-ranges", 2, element_ranges}};
  for (const auto& more : {run_parts(), together_parts()}) {
    parts.insert(parts.end(), more.begin(), more.end());
  }
  for (const Part& part : parts) {
    if (name != part.name || words.size() < part.words) continue;
    part.run(words);
    return 0;
  }
  fprintf(stderr, "error: see the heads of probe.cc and probe_*.cc\n");
  return 2;
}

}  // namespace
}  // namespace toolkit::probe

int main(int argc, char** argv) {
  try {
    return toolkit::probe::run(argc > 1 ? argv[1] : "", {argv + (argc > 1 ? 2 : 1), argv + argc});
  } catch (const std::exception& error) {
    fprintf(stderr, "error: %s\n", toolkit::message_of(error).c_str());
    return 1;
  }
}
