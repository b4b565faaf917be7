// Kernels say when they have read weights for the last time; the engine may then drop their pages.
#pragma once

#include <cstddef>

namespace toolkit {

/// Called with a range of weight bytes an operator will not read again; may be null.
using ReleaseHook = void (*)(const void* data, size_t bytes);

/// Installs the hook (null removes it). It is called from the thread that runs the operator.
void set_release_hook(ReleaseHook hook);

/// Reports a range to the hook, if there is one.
void release(const void* data, size_t bytes);

}  // namespace toolkit
