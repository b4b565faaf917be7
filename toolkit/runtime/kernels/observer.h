// Who is told what every operator took.
#pragma once

#include <cstdint>

namespace toolkit {

/// Called after an operator, on its thread, with its name (a literal) and wall time.
using OperatorObserver = void (*)(const char* name, int64_t nanoseconds);

/// Installs the observer; null removes it and its cost.
void set_operator_observer(OperatorObserver observer);
OperatorObserver operator_observer();

}  // namespace toolkit
