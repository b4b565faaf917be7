// Errors of the trainer: one sentence of cause and one of remedy, thrown inside the engine and
// turned into status codes by the C API.
#pragma once

#include <stdexcept>
#include <string>

namespace toolkit {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A wrong command line; the executable exits with 2 instead of 1.
class UsageError : public Error {
 public:
  using Error::Error;
};

// Throws Error with a printf-formatted message "cause. remedy".
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void fail_usage(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Throws Error "cannot ACTION PATH: strerror. remedy by kind of error".
[[noreturn]] void fail_errno(const char* action, const std::string& path);

std::string format(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace toolkit
