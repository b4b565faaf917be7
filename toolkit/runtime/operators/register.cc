#include "operators/register.h"

#include <executorch/runtime/kernel/operator_registry.h>
#include <executorch/runtime/platform/log.h>

#include <chrono>
#include <string_view>

#include "kernels/dry_run.h"
#include "kernels/error.h"
#include "kernels/observer.h"
#include "kernels/parallel.h"
#include "operators/neighbours.h"
#include "operators/together.h"

namespace toolkit {

/// Whether an operator is of those that Neighbours computes.
static bool may_wait(std::string_view name) {
  return name == "lora_linear" || name == "quantized_linear";
}

void run_operator(const char* name, Operator op, KernelRuntimeContext& context,
                  Stack stack) noexcept {
  using executorch::runtime::Error;
  const auto lock = exclusive_use();
  try {
    Arguments arguments(name, context, stack);
    if (DryRun* dry = DryRun::current()) dry->begin_operator();
    const OperatorObserver observer = operator_observer();
    Neighbours* neighbours = Neighbours::current();
    if (neighbours != nullptr && neighbours->waits() && !may_wait(name)) neighbours->compute();
    if (observer == nullptr) return op(arguments);
    const auto begin = std::chrono::steady_clock::now();
    op(arguments);
    if (neighbours != nullptr && neighbours->waits()) return neighbours->name(name);
    if (Together* together = Together::current(); together != nullptr && together->waits()) {
      return together->name(name);  // and tells how long it took
    }
    const auto spent = std::chrono::steady_clock::now() - begin;
    observer(name, std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count());
  } catch (const std::exception& error) {
    ET_LOG(Error, "toolkit::%s: %s", name, error.what());
    keep_operator_error(std::current_exception());
    context.fail(Error::Internal);
  }
}

bool register_operator(const char* full_name, void (*boxed)(KernelRuntimeContext&, Stack)) {
  const executorch::runtime::Kernel kernel(full_name, boxed);
  const executorch::runtime::Error error = executorch::runtime::register_kernel(kernel);
  if (error == executorch::runtime::Error::Ok) return true;
  // The operators that ExecuTorch has are another library's, with threads and hooks of their own.
  refuse_kernels("toolkit's operators are loaded twice. Load one library that has them");
  return false;
}

}  // namespace toolkit
