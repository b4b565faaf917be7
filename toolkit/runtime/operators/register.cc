#include "operators/register.h"

#include <executorch/runtime/kernel/operator_registry.h>
#include <executorch/runtime/platform/log.h>

#include <chrono>
#include <cstdlib>
#include <mutex>

#include "kernels/observer.h"

namespace toolkit {

void run_operator(const char* name, Operator op, KernelRuntimeContext& context, Stack stack) {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  Arguments arguments(name, context, stack);
  const OperatorObserver observer = operator_observer();
  if (observer == nullptr) return op(arguments);
  const auto begin = std::chrono::steady_clock::now();
  op(arguments);
  const auto spent = std::chrono::steady_clock::now() - begin;
  observer(name, std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count());
}

bool register_operator(const char* full_name, void (*boxed)(KernelRuntimeContext&, Stack)) {
  const executorch::runtime::Kernel kernel(full_name, boxed);
  const executorch::runtime::Error error = executorch::runtime::register_kernel(kernel);
  if (error != executorch::runtime::Error::Ok) {
    ET_LOG(Error, "%s could not be registered: is the library loaded twice?", full_name);
    std::abort();
  }
  return true;
}

}  // namespace toolkit
