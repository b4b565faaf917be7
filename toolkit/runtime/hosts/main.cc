// trainer: the command line over the C API. Exit codes: 0 success, 1 failure, 2 wrong usage, 130
// when the one who asked is gone.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/error.h"
#include "engine/memory/memory.h"
#include "engine/memory/memory_stats.h"
#include "engine/training/options.h"
#include "hosts/toolkit_trainer.h"
#include "operators/scratch.h"

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
    "  describe   options, methods and optimizers, for programs as JSON\n"
    "  info       version, ABI, instruction set and cores as JSON\n"
    "  scratch    --isa NAME --threads N: the scratch memory that operators take, as JSON, for "
    "calls\n"
    "             read from standard input (operators/scratch.h)\n\n"
    "See `trainer COMMAND --help`. Ctrl-C, SIGTERM or a file named `stop` in the run directory "
    "end\n"
    "training at the next step with everything saved.\n";

constexpr const char* kLifeline = "--lifeline";
constexpr const char* kLifelineHelp =
    "\nfor a program that starts this command:\n"
    "  --lifeline                        end when standard input ends, as it does with the one "
    "who\n"
    "                                    asked; ends with code 130\n";
constexpr int kAbandoned = 130;

constexpr const char* kDriven = "--driven";
constexpr const char* kDrivenHelp =
    "\nfor a program that starts this command, instead of all options:\n"
    "  --driven                          take lines from standard input: `option NAME VALUE`, then "
    "`open`,\n"
    "                                    `step`, `note EVENT DETAIL`, `stop`; `open` and `step` "
    "are answered by\n"
    "                                    `progress` with step, steps, tokens, loss, lr, gradient "
    "norm, seconds,\n"
    "                                    peak KiB, running, stopped, or by `failed STATUS "
    "MESSAGE`; ends with\n"
    "                                    standard input, with code 130\n";

void stop(int) {
  early_stop = 1;
  if (running != nullptr) toolkit_trainer_request_stop(running);
}

// Results nobody can read are not worth computing. The commands that print lines keep nothing that
// would have to be put away.
[[noreturn]] void abandon(const char* why) {
  fprintf(stderr, "error: %s. Start it again\n", why);
  _exit(kAbandoned);
}

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

// By command; `train` has a loop of its own.
constexpr decltype(&toolkit_evaluate) kComputes[toolkit::kCommands] = {
    nullptr, toolkit_gradients, toolkit_evaluate, toolkit_describe};

// Lines of the one who drives: a thread of its own reads them, so that `stop` is heard during a
// step and the end of standard input at any time.
class Orders {
 public:
  Orders() {
    std::thread([this] {
      for (std::string line; std::getline(std::cin, line);) {
        if (line == "stop") {
          stop(0);
        } else {
          std::lock_guard<std::mutex> lock(mutex_);
          lines_.push_back(line);
          filled_.notify_one();
        }
      }
      abandon("the one who asked for this is gone (standard input has ended)");
    }).detach();
  }

  std::string next() {
    std::unique_lock<std::mutex> lock(mutex_);
    filled_.wait(lock, [this] { return !lines_.empty(); });
    std::string line = std::move(lines_.front());
    lines_.pop_front();
    return line;
  }

 private:
  std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<std::string> lines_;
};

// "NAME REST" after a word of `skip` characters.
toolkit::OptionValue pair_of(const std::string& line, size_t skip) {
  const size_t space = std::min(line.find(' ', skip), line.size());
  return {line.substr(skip, space - skip), space < line.size() ? line.substr(space + 1) : ""};
}

int fail_driver(int status, const char* message) {
  printf("failed %d %s\n", status, message);
  fflush(stdout);
  return status;
}

void tell_driver(const toolkit_trainer* trainer) {
  toolkit_progress p;
  toolkit_trainer_progress(trainer, &p);
  printf("progress %lld %lld %lld %.17g %.17g %.17g %.17g %lld %d %d\n", (long long)p.step,
         (long long)p.steps, (long long)p.tokens, p.loss, p.lr, p.grad_norm, p.seconds,
         (long long)p.peak_kib, int(p.running), int(p.stopped));
  if (fflush(stdout) != 0) abandon("nobody reads what this command prints");
}

int open_driven(Orders& orders, toolkit_trainer** trainer) {
  std::vector<toolkit::OptionValue> values;
  for (std::string line; (line = orders.next()) != "open";) {
    if (line.rfind("option ", 0) != 0) return fail_driver(2, "expected `option` or `open`");
    values.push_back(pair_of(line, 7));
  }
  std::vector<toolkit_option> options;
  for (const toolkit::OptionValue& option : values) {
    options.push_back({option.name.c_str(), option.value.c_str()});
  }
  const int status = toolkit_trainer_create(options.data(), options.size(), trainer);
  if (status != 0) return fail_driver(status, toolkit_trainer_last_error(nullptr));
  running = *trainer;
  if (early_stop) toolkit_trainer_request_stop(*trainer);
  tell_driver(*trainer);
  toolkit::give_back_code();
  return 0;
}

int drive() {
  Orders& orders = *new Orders;  // outlives the thread that reads
  toolkit_trainer* trainer = nullptr;
  if (const int status = open_driven(orders, &trainer)) return status;
  for (int32_t more = 1; more != 0;) {
    const std::string line = orders.next();
    if (line == "step") {
      const int status = toolkit_trainer_step(trainer, &more);
      if (status != 0) return fail_driver(status, toolkit_trainer_last_error(trainer));
      tell_driver(trainer);
    } else if (line.rfind("note ", 0) == 0) {
      const toolkit::OptionValue event = pair_of(line, 5);
      toolkit_trainer_note(trainer, event.name.c_str(), event.value.c_str());
    } else {
      return fail_driver(2, "expected `step`, `note` or `stop`");
    }
  }
  return 0;
}

int run(Command command, std::vector<std::string> words) {
  for (const std::string& word : words) {
    if (word == "--help" || word == "-h") {
      fputs(toolkit::help_text(command).c_str(), stdout);
      fputs(command != Command::train ? kLifelineHelp : kDrivenHelp, stdout);
      return 0;
    }
  }
  if (command == Command::train && words == std::vector<std::string>{kDriven}) return drive();
  const auto lifeline = std::find(words.begin(), words.end(), kLifeline);
  if (command != Command::train && lifeline != words.end()) {
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
  if (command == Command::train) return train(options);
  const int status = kComputes[int(command)](options.data(), options.size(), print_line, nullptr);
  return report(status, toolkit_trainer_last_error(nullptr));
}

int scratch(const std::vector<std::string>& words) {
  char* end = nullptr;
  const bool complete = words.size() == 4 && words[0] == "--isa" && words[2] == "--threads";
  const long threads = complete ? strtol(words[3].c_str(), &end, 10) : 0;
  if (!complete || *end != '\0' || threads < 1 || threads > 1024) {
    return report(2, "scratch needs --isa NAME --threads N, N from 1 to 1024");
  }
  toolkit::answer_scratch(words[1], int(threads), std::cin, std::cout);
  return 0;
}

int run(const std::string& command, const std::vector<std::string>& words) {
  if (command == "train") return run(Command::train, words);
  if (command == "gradients") return run(Command::gradients, words);
  if (command == "evaluate") return run(Command::evaluate, words);
  if (command == "scratch") return scratch(words);
  if (command == "describe") return run(Command::describe, words);
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
