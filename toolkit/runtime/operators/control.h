// C functions of libtoolkit_operators.so, for hosts that load it with dlopen or ctypes.
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Sets the number of threads the operators use.
void toolkit_set_threads(int count);
/// Number of threads the operators use.
int toolkit_threads(void);
/// Name of the instruction set in use: plain, avx2, avx512 or neon.
const char* toolkit_isa(void);
/// Switches to another instruction set; returns 0, and changes nothing, when this processor lacks
/// it.
int toolkit_select_isa(const char* isa);
/// Installs a function that is told which weight bytes an operator has read for the last time (null
/// removes it).
void toolkit_set_release_hook(void (*hook)(const void* data, size_t bytes));
/// Bytes of scratch the operators hold.
size_t toolkit_workspace_bytes(void);

#ifdef __cplusplus
}
#endif
