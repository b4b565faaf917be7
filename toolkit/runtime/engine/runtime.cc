#include "engine/runtime.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "engine/device_info.h"
#include "engine/error.h"
#include "kernels/observer.h"
#include "kernels/parallel.h"
#include "kernels/release.h"
#include "kernels/workspace.h"

namespace toolkit {
namespace {

std::atomic<bool> claimed{false};
std::atomic<Runtime*> open_runtime{nullptr};

}  // namespace

Runtime::Claim::Claim() {
  if (claimed.exchange(true)) {
    fail("another run, evaluation or gradient is open in this process. Close it first");
  }
}

Runtime::Claim::~Claim() { claimed = false; }

Runtime* Runtime::current() { return open_runtime.load(std::memory_order_acquire); }

Runtime::Runtime(int64_t threads, const std::string& arithmetic) {
  kernels();  // complains about an instruction set this processor lacks
  open_runtime = this;
  set_release_hook([](const void* data, size_t bytes, bool rest) {
    current()->weights().released(data, bytes, rest);
  });
  try {
    if (!select_arithmetic(arithmetic.c_str())) {
      fail_usage("no arithmetic is named '%s'. See --help", arithmetic.c_str());
    }
    set_threads(threads > 0 ? int(threads) : fast_core_count());
  } catch (...) {
    close();
    throw;
  }
}

Runtime::~Runtime() { close(); }

void Runtime::keep_message(const char* text, size_t length) {
  std::lock_guard<std::mutex> lock(messages_);
  const size_t count = std::min(length, sizeof(message_) - 1);
  std::memcpy(message_, text, count);
  message_[count] = 0;
}

std::string Runtime::last_message() const {
  std::lock_guard<std::mutex> lock(messages_);
  return message_;
}

void Runtime::close() {
  set_threads(1);
  select_arithmetic(kArithmetics[0]);
  workspace_trim();
  set_release_hook(nullptr);
  set_operator_observer(nullptr);
  open_runtime = nullptr;
  give_back_heap();
}

}  // namespace toolkit
