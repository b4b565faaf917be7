// Registration of boxed kernels with ExecuTorch's operator registry.
#pragma once

#include "operators/arguments.h"

namespace toolkit {

using Operator = void (*)(Arguments& arguments);

/// Runs an operator on a stack of values, one at a time in this process (the kernels share one
/// workspace). What it throws is logged, kept for throw_operator_error, and fails the call.
void run_operator(const char* name, Operator op, KernelRuntimeContext& context,
                  Stack stack) noexcept;

/// Registers toolkit::<name>.out; where the name is taken, `kernels()` throws from then on.
bool register_operator(const char* full_name, void (*boxed)(KernelRuntimeContext&, Stack));

}  // namespace toolkit

/// TOOLKIT_OPERATOR(name) { body using `args` } defines and registers toolkit::name.out.
#define TOOLKIT_OPERATOR(name)                                                                     \
  static void op_##name(Arguments& args);                                                          \
  [[maybe_unused]] static const bool registered_##name = register_operator(                        \
      "toolkit::" #name ".out",                                                                    \
      [](KernelRuntimeContext& context, Stack s) { run_operator(#name, op_##name, context, s); }); \
  static void op_##name(Arguments& args)
