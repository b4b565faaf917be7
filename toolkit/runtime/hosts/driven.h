// `trainer train --driven`: a program asks for steps by lines, and what ends a command of this
// process.
#pragma once

#include <signal.h>

#include <atomic>

#include "hosts/toolkit_trainer.h"

namespace toolkit {

// The run that a request to stop is for, and whether one came before there was any.
extern std::atomic<toolkit_trainer*> running;
extern volatile sig_atomic_t early_stop;
void stop(int);  // a signal handler

// Ends the process. Results nobody can read are not worth computing. The commands that print lines
// keep nothing that would have to be put away.
[[noreturn]] void abandon(const char* why);

// Until the run is over or standard input ends; returns the exit code.
int drive();

}  // namespace toolkit
