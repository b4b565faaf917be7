// trainer: the command line over the C API. Exit codes: 0 success, 1 failure, 2 wrong usage.
#include <signal.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "trainer/error.h"
#include "trainer/memory.h"
#include "trainer/options.h"
#include "trainer/toolkit_trainer.h"

namespace {

using toolkit::Command;

toolkit_trainer* running = nullptr;
volatile sig_atomic_t early_stop = 0;

constexpr const char* kHelp =
    "usage: trainer COMMAND [options]\n\n"
    "Fine-tunes LoRA adapters of a toolkit bundle on this device, one block of the model at a "
    "time.\n\n"
    "commands:\n"
    "  train      train a bundle's adapter\n"
    "  evaluate   loss and perplexity of an adapter\n"
    "  gradients  one step's loss and gradients, to be compared with PyTorch's\n"
    "  info       version, ABI, instruction set and cores as JSON\n\n"
    "See `trainer COMMAND --help`. Ctrl-C, SIGTERM or a file named `stop` in the run directory "
    "end\n"
    "training at the next step with everything saved.\n";

void stop(int) {
  early_stop = 1;
  if (running != nullptr) toolkit_trainer_request_stop(running);
}

void print_line(const char* line, void*) {
  printf("%s\n", line);
  fflush(stdout);
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
  status = toolkit_trainer_run(trainer, print_progress, nullptr);
  report(status, toolkit_trainer_last_error(trainer));
  // The process ends here anyway; a late signal must still find the trainer.
  return status;
}

int run(Command command, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (word == "--help" || word == "-h") {
      fputs(toolkit::help_text(command).c_str(), stdout);
      return 0;
    }
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
  if (command == Command::train) return train(options);
  const auto compute = command == Command::gradients ? toolkit_gradients : toolkit_evaluate;
  const int status = compute(options.data(), options.size(), print_line, nullptr);
  return report(status, toolkit_trainer_last_error(nullptr));
}

}  // namespace

int main(int argc, char** argv) {
  toolkit::tune_allocator();
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // a file size limit is then an error like a full disk
  const std::string command = argc > 1 ? argv[1] : "--help";
  const std::vector<std::string> words(argv + (argc > 1 ? 2 : 1), argv + argc);
  if (command == "train") return run(Command::train, words);
  if (command == "gradients") return run(Command::gradients, words);
  if (command == "evaluate") return run(Command::evaluate, words);
  if (command == "info") {
    print_line(toolkit_info(), nullptr);
    return 0;
  }
  if (command == "--help" || command == "-h" || command == "help") {
    fputs(kHelp, argc > 1 ? stdout : stderr);
    return argc > 1 ? 0 : 2;
  }
  return report(2, ("unknown command '" + command + "'. See trainer --help").c_str());
}
