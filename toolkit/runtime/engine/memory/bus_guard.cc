#include "engine/memory/bus_guard.h"

#include <signal.h>

#include <atomic>

namespace toolkit {
namespace {

// What a signal handler may look at. It stays installed where another handler was put on top of it
// meanwhile, which may call it; without weights it only passes signals on.
std::atomic<MappedWeights*> guarded{nullptr};
struct sigaction previous = {};
bool beneath = false;  // another one that may call this one, which must not call it then

void pass_on(int number, siginfo_t* info, void* context) {
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(number, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(number);
  } else {
    // The access is repeated and ends the process, with this address in its core dump.
    struct sigaction standard = {};
    standard.sa_handler = SIG_DFL;
    sigaction(number, &standard, nullptr);
    if (info->si_code <= 0) raise(number);  // sent by somebody: nothing is repeated
  }
}

void handle(int number, siginfo_t* info, void* context) {
  MappedWeights* weights = guarded;
  const bool fault = info->si_code > 0;
  if (!fault || weights == nullptr || !weights->patch(reinterpret_cast<uintptr_t>(info->si_addr))) {
    pass_on(number, info, context);
  }
}

bool installed() {
  struct sigaction present = {};
  sigaction(SIGBUS, nullptr, &present);
  return (present.sa_flags & SA_SIGINFO) != 0 && present.sa_sigaction == handle;
}

}  // namespace

BusGuard::BusGuard(MappedWeights& weights) {
  guarded = &weights;
  if (beneath) return;
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, nullptr, &previous);
  sigaction(SIGBUS, &action, nullptr);
}

BusGuard::~BusGuard() {
  guarded = nullptr;
  beneath = !installed();
  if (!beneath) sigaction(SIGBUS, &previous, nullptr);
}

}  // namespace toolkit
