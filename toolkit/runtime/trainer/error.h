// Ways to throw an Error of kernels/error.h, which the C API turns into status codes.
#pragma once

#include <string>

#include "kernels/error.h"

namespace toolkit {

// Throws Error with a printf-formatted message "cause. remedy".
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void fail_usage(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Throws Error "cannot ACTION PATH: strerror. remedy by kind of error".
[[noreturn]] void fail_errno(const char* action, const std::string& path);

std::string format(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace toolkit
