#include "operators/register.h"

#include <executorch/runtime/kernel/operator_registry.h>
#include <executorch/runtime/platform/log.h>

#include <cstdlib>
#include <mutex>

namespace toolkit {

void run_operator(const char* name, Operator op, KernelRuntimeContext& context, Stack stack) {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  Arguments arguments(name, context, stack);
  op(arguments);
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
