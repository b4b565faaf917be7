// Kernels say when they have read weights for the last time; the engine may then drop their pages.
#pragma once

#include <cstddef>

namespace toolkit {

/// Called with a range of weight bytes an operator will not read again; `rest` as release_rest
/// says.
using ReleaseHook = void (*)(const void* data, size_t bytes, bool rest);

/// Installs the hook (null removes it). It is called from the thread that runs the operator.
void set_release_hook(ReleaseHook hook);

/// Reports a range to the hook, if there is one; every byte once for each time it was read.
void release(const void* data, size_t bytes);

/// Reports a range again whose parts were released as they were read: the pages mapped around later
/// parts may have brought earlier ones back.
void release_rest(const void* data, size_t bytes);

}  // namespace toolkit
