// The `describe` command: what this trainer can do, for programs (JSON) and for people.
#pragma once

#include "engine/training/options.h"

namespace toolkit {

// Called with a line of text.
using PrintLine = void (*)(const char* line, void* user);

// With --json one line, an object:
//   version     of the toolkit
//   options     name, type (text, choice, whole, number, switch), unit, default, choices, minimum,
//               maximum, commands that take it, commands that require it, help
//   optimizers  name, help, options (that it reads, with its defaults), states: for every shape of
//               --shape what it remembers: name, type, count, bytes in memory
//   methods     name, help, options, and whether it needs the backward programs, checkpoints,
//               gradients, and whether it updates the adapter itself (the optimizer is then sgd)
//   instruction_sets  those this processor has, the one in use first
//   arithmetic  what products are computed in
// Throws UsageError.
void run_describe(const Options& options, PrintLine print, void* user);

}  // namespace toolkit
