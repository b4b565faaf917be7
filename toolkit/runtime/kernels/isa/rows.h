// Declares the operations on rows in this instruction set's namespace.
#pragma once

#include "kernels/isa/simd.h"

namespace toolkit {
namespace TOOLKIT_ISA {
#define TOOLKIT_DECLARE(name, parameters) void name parameters;
TOOLKIT_ROW_PRIMITIVES(TOOLKIT_DECLARE)
#undef TOOLKIT_DECLARE
}  // namespace TOOLKIT_ISA
}  // namespace toolkit
