#include "kernels/release.h"

namespace toolkit {
namespace {
ReleaseHook installed_hook = nullptr;
}

void set_release_hook(ReleaseHook hook) { installed_hook = hook; }

void release(const void* data, size_t bytes) {
  if (installed_hook != nullptr && data != nullptr && bytes > 0) installed_hook(data, bytes, false);
}

void release_rest(const void* data, size_t bytes) {
  if (installed_hook != nullptr && data != nullptr && bytes > 0) installed_hook(data, bytes, true);
}

}  // namespace toolkit
