// Ways to throw an Error of kernels/error.h, which the C API turns into status codes.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/error.h"

namespace toolkit {

// The storage of a file is full, for now: waiting may help.
class StorageFull : public Error {
 public:
  explicit StorageFull(const std::string& cause)
      : Error(cause + ". Free some storage and resume"), cause_(cause) {}
  const std::string& cause() const { return cause_; }

 private:
  std::string cause_;
};

// Throws Error with a printf-formatted message "cause. remedy".
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void fail_usage(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Throws Error "cannot ACTION PATH: strerror. remedy by kind of error"; StorageFull where that is
// it.
[[noreturn]] void fail_errno(const char* action, const std::string& path);

std::string format(const char* format, ...) __attribute__((format(printf, 1, 2)));

// "cause. remedy" of any exception; what the standard library throws for want of memory says so.
std::string message_of(const std::exception& error);

// "640 KB", "12.5 MB" or "3.1 GB", in decimal units.
std::string size_text(int64_t bytes);

}  // namespace toolkit
