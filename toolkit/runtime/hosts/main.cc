// trainer: the command line over the C API. Exit codes: 0 success, 1 failure, 2 wrong usage, 130
// when the one who asked is gone.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "engine/error.h"
#include "engine/memory/memory.h"
#include "engine/memory/memory_stats.h"
#include "engine/training/options.h"
#include "hosts/driven.h"
#include "hosts/generate.h"
#include "hosts/toolkit_trainer.h"
#include "kernels/kernels.h"
#include "operators/scratch.h"

namespace {

using toolkit::abandon;
using toolkit::Command;
using toolkit::early_stop;
using toolkit::running;
using toolkit::stop;

constexpr const char* kHelp =
    "usage: trainer COMMAND [options]\n\n"
    "Fine-tunes LoRA adapters of a toolkit bundle on this device, one block of the model at a "
    "time.\n\n"
    "commands:\n"
    "  train      train a bundle's adapter\n"
    "  evaluate   loss and perplexity of an adapter\n"
    "  generate   what follows prompts, token by token\n"
    "  replay     an adapter from another one and the moves of zeroth-order steps\n"
    "  dry-run    what `train` with the same options will hold and write, as JSON\n"
    "  gradients  one step's loss and gradients, to be compared with PyTorch's\n"
    "  describe   options, methods and optimizers, for programs as JSON\n"
    "  info       version, ABI, instruction set and cores as JSON\n"
    "  scratch    --isa NAME --threads N [--arithmetic NAME]: operators' scratch as JSON, for\n"
    "             calls from standard input (operators/scratch.h)\n\n"
    "See `trainer COMMAND --help`. Ctrl-C, SIGTERM or a file named `stop` in the run directory\n"
    "end training before or after the current step with everything saved.\n";

constexpr const char* kLifeline = "--lifeline";
constexpr const char* kLifelineHelp =
    "\nfor a program that starts this command:\n"
    "  --lifeline                        end when standard input ends, as it does with the one\n"
    "                                    who asked; ends with code 130\n";
constexpr const char* kDriven = "--driven";
constexpr const char* kDrivenHelp =
    "\nfor a program that starts this command, instead of all options:\n"
    "  --driven                          take lines from standard input: `option NAME VALUE`,\n"
    "                                    then `open`, `step`, `note EVENT DETAIL`, `stop`; `open`\n"
    "                                    and `step` are answered by `progress` with step, steps,\n"
    "                                    tokens, loss, lr, gradient norm, seconds, peak KiB,\n"
    "                                    running, stopped, or by `failed STATUS MESSAGE`, and\n"
    "                                    before that by `waiting CAUSE` while a save finds the\n"
    "                                    storage full, `waiting ` when there is room again; ends\n"
    "                                    with standard input, with code 130\n";

void print_line(const char* line, void*) {
  if (printf("%s\n", line) < 0 || fflush(stdout) != 0) {
    abandon("nobody reads what this command prints");
  }
}

void hold_on_to_standard_input() {
  std::thread([] {
    char ignored[256];
    ssize_t count = 0;
    do count = read(STDIN_FILENO, ignored, sizeof(ignored));
    while (count > 0 || (count < 0 && errno == EINTR));
    abandon("the one who asked for this is gone (standard input has ended)");
  }).detach();
}

void print_progress(const toolkit_progress* p, void*) {
  printf("step %lld/%lld  loss %.4f  lr %.3g  %lld tokens  %.2f s  peak %.1f MB\n",
         (long long)p->step, (long long)p->steps, p->loss, p->lr, (long long)p->tokens, p->seconds,
         double(p->peak_kib) / 1024);
  fflush(stdout);
}

int report(int status, const char* message) {
  if (status != 0) fprintf(stderr, "error: %s\n", message);
  return status;
}

int train(const std::vector<toolkit_option>& options) {
  struct sigaction action = {};
  action.sa_handler = stop;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  toolkit_trainer* trainer = nullptr;
  int status = toolkit_trainer_create(options.data(), options.size(), &trainer);
  if (status != 0) return report(status, toolkit_trainer_last_error(nullptr));
  running = trainer;
  if (early_stop) toolkit_trainer_request_stop(trainer);
  fputs(toolkit_trainer_notices(trainer), stdout);
  toolkit::give_back_code();
  status = toolkit_trainer_run(trainer, print_progress, nullptr);
  report(status, toolkit_trainer_last_error(trainer));
  // The process ends here anyway; a late signal must still find the trainer.
  return status;
}

// By command; `train` and `generate` have loops of their own.
using Compute = decltype(&toolkit_evaluate);
constexpr Compute kComputes[toolkit::kCommands] = {
    nullptr, toolkit_gradients, toolkit_evaluate, toolkit_describe, nullptr, toolkit_replay};

// `instead`: computes something else with the command's options.
int run(Command command, std::vector<std::string> words, Compute instead = nullptr) {
  const bool train_it = command == Command::train && instead == nullptr;
  const bool reads = train_it || command == Command::generate;
  for (const std::string& word : words) {
    if (word == "--help" || word == "-h") {
      fputs(toolkit::help_text(command).c_str(), stdout);
      if (train_it || !reads) fputs(train_it ? kDrivenHelp : kLifelineHelp, stdout);
      return 0;
    }
  }
  if (train_it && words == std::vector<std::string>{kDriven}) return toolkit::drive();
  const auto lifeline = std::find(words.begin(), words.end(), kLifeline);
  if (!reads && lifeline != words.end()) {
    words.erase(lifeline);
    hold_on_to_standard_input();
  }
  std::vector<toolkit::OptionValue> values;
  try {
    values = toolkit::split_arguments(command, words);
  } catch (const toolkit::Error& error) {
    return report(2, error.what());
  }
  std::vector<toolkit_option> options;
  for (const toolkit::OptionValue& option : values) {
    options.push_back({option.name.c_str(), option.value.c_str()});
  }
  if (train_it) return train(options);
  if (command == Command::generate) return toolkit::run_generate(values, options);
  const Compute compute = instead != nullptr ? instead : kComputes[int(command)];
  const int status = compute(options.data(), options.size(), print_line, nullptr);
  return report(status, toolkit_trainer_last_error(nullptr));
}

int scratch(const std::vector<std::string>& words) {
  char* end = nullptr;
  const size_t count = words.size();
  const bool complete = (count == 4 || (count == 6 && words[4] == "--arithmetic")) &&
                        words[0] == "--isa" && words[2] == "--threads";
  const long threads = complete ? strtol(words[3].c_str(), &end, 10) : 0;
  if (!complete || *end != '\0' || threads < 1 || threads > 1024) {
    return report(2, "scratch needs --isa NAME --threads N [--arithmetic NAME], N from 1 to 1024");
  }
  const std::string arithmetic = count == 6 ? words[5] : toolkit::kArithmetics[0];
  toolkit::answer_scratch(words[1], int(threads), arithmetic, std::cin, std::cout);
  return 0;
}

int run(const std::string& command, const std::vector<std::string>& words) {
  for (int i = 0; i < toolkit::kCommands; ++i) {
    if (command == toolkit::command_name(Command(i))) return run(Command(i), words);
  }
  if (command == "scratch") return scratch(words);
  if (command == "dry-run") return run(Command::train, words, toolkit_dry_run);
  if (command == "info") {
    const char* line = toolkit_info();
    if (line == nullptr) return report(2, toolkit_trainer_last_error(nullptr));
    print_line(line, nullptr);
    return 0;
  }
  return report(2, ("unknown command '" + command + "'. See trainer --help").c_str());
}

}  // namespace

int main(int argc, char** argv) {
  toolkit::tune_allocator();
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // a file size limit is then an error like a full disk
  try {
    const std::string command = argc > 1 ? argv[1] : "";
    if (command.empty() || command == "--help" || command == "-h" || command == "help") {
      fputs(kHelp, argc > 1 ? stdout : stderr);
      return argc > 1 ? 0 : 2;
    }
    return run(command, {argv + 2, argv + argc});
  } catch (const std::exception& error) {
    return report(1, toolkit::message_of(error).c_str());
  }
}
