#include "trainer/error.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace toolkit {
namespace {

std::string vformat(const char* text, va_list args) {
  char buffer[1024];
  vsnprintf(buffer, sizeof(buffer), text, args);
  return buffer;
}

const char* remedy(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return "Free some storage and resume";
    case ENOENT:
      return "Check the path";
    case EACCES:
    case EPERM:
    case EROFS:
      return "Check the permissions";
    case ENOMEM:
      return "Close other programs or use a shorter sequence length";
    default:
      return "Check the storage of the device";
  }
}

}  // namespace

void fail(const char* text, ...) {
  va_list args;
  va_start(args, text);
  std::string message = vformat(text, args);
  va_end(args);
  throw Error(message);
}

void fail_usage(const char* text, ...) {
  va_list args;
  va_start(args, text);
  std::string message = vformat(text, args);
  va_end(args);
  throw UsageError(message);
}

void fail_errno(const char* action, const std::string& path) {
  const int error = errno;
  fail("cannot %s %s: %s. %s", action, path.c_str(), std::strerror(error), remedy(error));
}

std::string format(const char* text, ...) {
  va_list args;
  va_start(args, text);
  std::string result = vformat(text, args);
  va_end(args);
  return result;
}

}  // namespace toolkit
