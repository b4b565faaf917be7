// Parts of trainer_probe that open whole runs, and what surrounds them.
//   sessions DATA BUNDLE OUT ROUNDS    opens, trains two steps and closes, so many times: "KiB of
//     anonymous memory, threads, KiB of scratch" before, while it is open, and after
//   exclusive DATA BUNDLE OUT          what a second run and the commands say while one is open,
//     and after a failed open
//   observed DATA BUNDLE OUT           whether operators are observed while a run is open, after it
//     was closed, and after one that could not be opened
//   unmapped FILE                      what is said of weights that cannot be mapped, 40 times;
//   then
//     how much the address space has grown, and the first byte of others that can
//   unreadable FILE                    maps FILE, cuts it to half, reads all of it with two threads
//   foreign FILE none|old              reads a cut mapping that is not the engine's while a run
//     could be open; `old` is a handler of before
//   kept-handler                       whether a closed runtime leaves the handler of before
//   saves STEPS ASKED MINUTES BYTES SECONDS COUNT [BESIDE]
//     after which of COUNT steps of SECONDS a run saves; every step writes BESIDE bytes
//   place auto|ram|spill BYTES KIB     where checkpoints go with so much memory free, and why
//   group LIST MOUNTED                 KiB that control groups leave
//   give-up PROGRAMS.pte               ExecuTorch meets a broken invariant
//   null-codes                         an operator whose weight has no data
//   normals ISA SEED TENSOR LAYER STEP COUNT > floats
#include <executorch/runtime/core/evalue.h>
#include <executorch/runtime/platform/abort.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>

#include "engine/error.h"
#include "engine/memory/checkpoints.h"
#include "engine/memory/memory_stats.h"
#include "engine/memory/weights.h"
#include "engine/model/program.h"
#include "engine/runtime.h"
#include "engine/training/save_schedule.h"
#include "hosts/probe.h"
#include "hosts/toolkit_trainer.h"
#include "kernels/kernels.h"
#include "kernels/observer.h"
#include "kernels/parallel.h"
#include "kernels/workspace.h"
#include "operators/arguments.h"

namespace toolkit::probe {
namespace {

int status_number(const char* name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name, 0) == 0) return std::stoi(line.substr(std::strlen(name)));
  }
  return -1;
}

void print_size(const char* when) {
  printf("%s %d %d %d\n", when, status_number("RssAnon:"), status_number("Threads:"),
         int(workspace_bytes() / 1024));
}

toolkit_trainer* open_run(const Words& words, int* status) {
  const toolkit_option options[] = {{"data", words[0].c_str()}, {"bundle", words[1].c_str()},
                                    {"out", words[2].c_str()},  {"steps", "1000"},
                                    {"threads", "3"},           {"save-every", "0"}};
  toolkit_trainer* trainer = nullptr;
  *status = toolkit_trainer_create(options, sizeof(options) / sizeof(options[0]), &trainer);
  return trainer;
}

void sessions(const Words& words) {
  print_size("before");
  for (int64_t round = 0; round < integer(words[3]); ++round) {
    Words run = words;
    run[2] += std::to_string(round);
    int status = 0;
    toolkit_trainer* trainer = open_run(run, &status);
    if (trainer == nullptr) fail("%s", toolkit_trainer_last_error(nullptr));
    for (int32_t more, step = 0; step < 2; ++step) toolkit_trainer_step(trainer, &more);
    print_size("open");
    toolkit_trainer_close(trainer);
    print_size("closed");
  }
}

void ignore_line(const char*, void*) {}

void exclusive(const Words& words) {
  int status = 0;
  toolkit_trainer* first = open_run(words, &status);
  if (first == nullptr) fail("%s", toolkit_trainer_last_error(nullptr));
  Words other = words;
  other[2] += "-other";
  toolkit_trainer* second = open_run(other, &status);
  printf("create %d %d %s\n", status, second != nullptr, toolkit_trainer_last_error(nullptr));
  const toolkit_option evaluate[] = {{"data", words[0].c_str()}, {"bundle", words[1].c_str()}};
  status = toolkit_evaluate(evaluate, 2, ignore_line, nullptr);
  printf("evaluate %d %s\n", status, toolkit_trainer_last_error(nullptr));
  const std::string tensors = words[2] + "-gradients";
  const toolkit_option gradients[] = {{"data", words[0].c_str()},
                                      {"bundle", words[1].c_str()},
                                      {"samples", "0"},
                                      {"out", tensors.c_str()}};
  status = toolkit_gradients(gradients, 4, ignore_line, nullptr);
  printf("gradients %d %s\n", status, toolkit_trainer_last_error(nullptr));
  int32_t more = 0;
  printf("step %d\n", toolkit_trainer_step(first, &more));
  toolkit_trainer_close(first);
  Words missing = words;
  missing[1] = "does/not/exist";
  missing[2] += "-missing";
  open_run(missing, &status);
  printf("missing %d %s\n", status, toolkit_trainer_last_error(nullptr));
  printf("after %d\n", toolkit_evaluate(evaluate, 2, ignore_line, nullptr));
}

void observed(const Words& words) {
  const auto tell = [](const char* when) {
    printf("%s %d\n", when, operator_observer() != nullptr);
  };
  int status = 0;
  toolkit_trainer* trainer = open_run(words, &status);
  if (trainer == nullptr) fail("%s", toolkit_trainer_last_error(nullptr));
  tell("open");
  toolkit_trainer_close(trainer);
  tell("closed");
  Words missing = words;
  missing[1] = "does/not/exist";
  missing[2] += "-missing";
  open_run(missing, &status);
  tell("failed");
}

void unmapped(const Words& words) {
  constexpr int64_t kApart = 80 << 10, kTooMuch = int64_t(1) << 47;
  Runtime runtime(1);
  const File file(words[0], O_RDONLY);
  // The second of two places has no room; or there are more places than can be kept track of.
  std::vector<std::vector<WeightRef>> impossible = {{{0, 64}, {kApart, kTooMuch}}, {}};
  for (int64_t i = 0; i < 65; ++i) impossible[1].push_back({i * kApart, 64});
  const int before = status_number("VmSize:");
  for (int i = 0; i < 40; ++i) {
    try {
      WeightMapping(file, impossible[i % 2], nullptr);
    } catch (const Error& error) {
      printf("%s\n", error.what());
    }
  }
  printf("%d\n", status_number("VmSize:") - before);
  const WeightMapping weights(file, {{0, 64}, {kApart, 64}}, nullptr);
  printf("%d\n", *static_cast<const char*>(weights.data(1)));
}

int64_t sum_of(const void* data, int64_t bytes) {
  const auto* values = static_cast<const volatile uint8_t*>(data);
  int64_t sum = 0;
  for (int64_t i = 0; i < bytes; i += 64) sum += values[i];
  return sum;
}

void unreadable(const Words& words) {
  Runtime runtime(2);
  const File file(words[0], O_RDONLY);
  const int64_t bytes = file.size();
  const WeightMapping weights(file, {{0, bytes / 4}, {bytes / 4, bytes - bytes / 4}}, nullptr);
  if (truncate(words[0].c_str(), bytes / 2) != 0) fail_errno("cut", words[0]);
  const auto* data = static_cast<const char*>(weights.data(0));
  int64_t sums[2] = {};
  parallel(2, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) sums[i] = sum_of(data + i * bytes / 2, bytes / 2);
  });
  printf("%lld %lld\n", (long long)sums[0], (long long)sums[1]);
  fflush(stdout);
  weights.check();
}

void on_foreign(int, siginfo_t*, void*) {
  const char text[] = "the handler of before\n";
  if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0) _exit(4);
  _exit(3);
}

void install(void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}

void foreign(const Words& words) {
  if (words[1] == "old") install(on_foreign);
  Runtime runtime(1);
  const File file(words[0], O_RDONLY);
  const int64_t bytes = file.size();
  void* data = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file.fd(), 0);
  if (truncate(words[0].c_str(), 0) != 0) fail_errno("cut", words[0]);
  printf("%lld\n", (long long)sum_of(data, bytes));
}

void kept_handler(const Words&) {
  install(on_foreign);
  {
    Runtime runtime(1);
  }
  struct sigaction present = {};
  sigaction(SIGBUS, nullptr, &present);
  printf("%s\n", present.sa_sigaction == on_foreign ? "kept" : "replaced");
}

void saves(const Words& words) {
  const double seconds = number(words[4]);
  SaveSchedule schedule(integer(words[0]), words[1] == "asked", number(words[2]), integer(words[3]),
                        0);
  for (int64_t step = 1; step <= integer(words[5]); ++step) {
    if (words.size() > 6) schedule.wrote(integer(words[6]));
    if (!schedule.due(step, double(step) * seconds)) continue;
    schedule.saved(double(step) * seconds);
    printf("%lld\n", (long long)step);
  }
  if (schedule.stretched()) printf("stretched\n");
}

void place(const Words& words) {
  const CheckpointChoice choice =
      choose_place(checkpoints_from(words[0]), integer(words[1]), integer(words[2]));
  printf("%s: %s\n", choice.spilled ? "spill" : "ram", choice.reason.c_str());
}

void group(const Words& words) { printf("%lld\n", (long long)group_rest_kib(words[0], words[1])); }

void give_up(const Words& words) {
  Runtime runtime(1);
  const Program program(words[0]);
  executorch::runtime::runtime_abort();
}

void null_codes(const Words&) {
  namespace et = executorch::runtime;
  using executorch::runtime::etensor::TensorImpl;
  int32_t codes_size[] = {1, 32, 8}, scale_size[] = {1, 1, 16};
  uint8_t order[] = {0, 1, 2};
  int32_t codes_stride[] = {256, 8, 1}, scale_stride[] = {16, 16, 1};
  uint16_t scales[16] = {};
  TensorImpl codes(ScalarType::Byte, 3, codes_size, nullptr, order, codes_stride);
  TensorImpl scale(ScalarType::Half, 3, scale_size, scales, order, scale_stride);
  et::EValue values[] = {et::EValue(Tensor(&codes)), et::EValue(Tensor(&scale)), et::EValue()};
  et::EValue* stack[] = {&values[0], &values[1], &values[2]};
  KernelRuntimeContext context;
  Arguments arguments("test", context, {stack, 3});
  arguments.weight("weight");
  printf("%s\n", arguments.ok() ? "taken" : "refused");
}

void normals(const Words& words) {
  const Kernels* found = kernels_for(words[0].c_str());
  if (found == nullptr) fail("this processor has no %s", words[0].c_str());
  const uint64_t seed = uint64_t(integer(words[1]));
  const NormalStream stream = {
      {uint32_t(seed), uint32_t(seed >> 32)},
      {uint32_t(integer(words[2])), uint32_t(integer(words[3])), uint32_t(integer(words[4]))}};
  const std::vector<float> zeros(size_t(integer(words[5])));
  std::vector<float> z(zeros.size()), opposite(zeros.size());
  found->perturb(zeros.data(), stream, int64_t(zeros.size()), 1, HUGE_VALF, z.data(),
                 opposite.data());
  fwrite(z.data(), sizeof(float), z.size(), stdout);
}

}  // namespace

std::vector<Part> run_parts() {
  return {{"sessions", 4, sessions},
          {"exclusive", 3, exclusive},
          {"observed", 3, observed},
          {"unmapped", 1, unmapped},
          {"unreadable", 1, unreadable},
          {"foreign", 2, foreign},
          {"kept-handler", 0, kept_handler},
          {"saves", 6, saves},
          {"place", 3, place},
          {"group", 2, group},
          {"give-up", 1, give_up},
          {"null-codes", 0, null_codes},
          {"normals", 6, normals}};
}

}  // namespace toolkit::probe
