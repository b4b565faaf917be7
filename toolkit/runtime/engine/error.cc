#include "engine/error.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <new>
#include <system_error>

namespace toolkit {
namespace {

std::string vformat(const char* text, va_list args) {
  char buffer[1024];
  vsnprintf(buffer, sizeof(buffer), text, args);
  return buffer;
}

const char* remedy(int error) {
  switch (error) {
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
  const std::string cause =
      toolkit::format("cannot %s %s: %s", action, path.c_str(), std::strerror(error));
  if (error == ENOSPC || error == EDQUOT) throw StorageFull(cause);
  throw Error(cause + ". " + remedy(error));
}

std::string format(const char* text, ...) {
  va_list args;
  va_start(args, text);
  std::string result = vformat(text, args);
  va_end(args);
  return result;
}

std::string message_of(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    return "not enough memory. Close other programs, or use a shorter sequence length or a smaller "
           "model";
  }
  if (auto system = dynamic_cast<const std::system_error*>(&error)) {
    // std::thread is the only part of the standard library used here that throws it.
    return toolkit::format(
        "a thread cannot be started (%s), most likely for want of memory. Close other programs or "
        "use fewer --threads",
        system->code().message().c_str());
  }
  return error.what();
}

std::string size_text(int64_t bytes) {
  if (bytes < 1000 * 1000) return toolkit::format("%lld KB", (long long)((bytes + 999) / 1000));
  if (bytes < 1000 * 1000 * 1000) return toolkit::format("%.1f MB", double(bytes) / 1e6);
  return toolkit::format("%.1f GB", double(bytes) / 1e9);
}

}  // namespace toolkit
