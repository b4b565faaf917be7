#include "hosts/driven.h"

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/memory/memory_stats.h"
#include "engine/training/options.h"

namespace toolkit {

std::atomic<toolkit_trainer*> running{nullptr};
volatile sig_atomic_t early_stop = 0;
constexpr int kAbandoned = 130;

void stop(int) {
  early_stop = 1;
  if (toolkit_trainer* const now = running) toolkit_trainer_request_stop(now);
}

[[noreturn]] void abandon(const char* why) {
  fprintf(stderr, "error: %s. Start it again\n", why);
  _exit(kAbandoned);
}

namespace {

// "NAME REST" after a word of `skip` characters.
OptionValue pair_of(const std::string& line, size_t skip) {
  const size_t space = std::min(line.find(' ', skip), line.size());
  return {line.substr(skip, space - skip), space < line.size() ? line.substr(space + 1) : ""};
}

// Lines of the one who drives: a thread of its own reads them, so that `note` and `stop` are heard
// during a step, in their order, and the end of standard input at any time.
class Orders {
 public:
  Orders() {
    std::thread([this] {
      for (std::string line; std::getline(std::cin, line);) {
        if (line == "stop") {
          stop(0);
        } else if (line.rfind("note ", 0) == 0 && running != nullptr) {
          const OptionValue event = pair_of(line, 5);
          toolkit_trainer_note(running, event.name.c_str(), event.value.c_str());
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

void tell_waiting(const char* cause, void*) {
  printf("waiting %s\n", cause);
  if (fflush(stdout) != 0) abandon("nobody reads what this command prints");
}

int open_driven(Orders& orders, toolkit_trainer** trainer) {
  std::vector<OptionValue> values;
  for (std::string line; (line = orders.next()) != "open";) {
    if (line.rfind("option ", 0) != 0) return fail_driver(2, "expected `option` or `open`");
    values.push_back(pair_of(line, 7));
  }
  std::vector<toolkit_option> options;
  for (const OptionValue& option : values) {
    options.push_back({option.name.c_str(), option.value.c_str()});
  }
  const int status = toolkit_trainer_create(options.data(), options.size(), trainer);
  if (status != 0) return fail_driver(status, toolkit_trainer_last_error(nullptr));
  running = *trainer;
  toolkit_trainer_tell_waiting(*trainer, tell_waiting, nullptr);
  if (early_stop) toolkit_trainer_request_stop(*trainer);
  tell_driver(*trainer);
  give_back_code();
  return 0;
}

}  // namespace

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
    } else {
      return fail_driver(2, "expected `step`, `note` or `stop`");
    }
  }
  return 0;
}

}  // namespace toolkit
