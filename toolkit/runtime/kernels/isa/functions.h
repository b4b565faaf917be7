// Declares every kernel of the table in this instruction set's namespace.
#pragma once

#include "kernels/isa/simd.h"

namespace toolkit {
namespace TOOLKIT_ISA {
#define TOOLKIT_DECLARE(name, parameters) void name parameters;
TOOLKIT_KERNELS(TOOLKIT_DECLARE)
#undef TOOLKIT_DECLARE
int64_t head_sweeps(int64_t tokens);
}  // namespace TOOLKIT_ISA
}  // namespace toolkit
