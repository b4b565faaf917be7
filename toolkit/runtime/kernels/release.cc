#include "kernels/release.h"

#include "kernels/dry_run.h"

namespace toolkit {
namespace {
ReleaseHook installed_hook = nullptr;

void tell(const void* data, size_t bytes, bool rest) {
  if (installed_hook == nullptr || data == nullptr || bytes == 0) return;
  if (DryRun::current() == nullptr) installed_hook(data, bytes, rest);
}
}  // namespace

void set_release_hook(ReleaseHook hook) { installed_hook = hook; }

void release(const void* data, size_t bytes) { tell(data, bytes, false); }
void release_rest(const void* data, size_t bytes) { tell(data, bytes, true); }

}  // namespace toolkit
