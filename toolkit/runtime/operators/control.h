// C functions of libtoolkit_operators.so, for hosts that load it with dlopen or ctypes.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// What went wrong in this thread's last function that failed.
const char* toolkit_last_error(void);
/// Sets the number of threads the operators use; returns 0, and leaves one, when they cannot be
/// started.
int toolkit_set_threads(int count);
/// Number of threads the operators use.
int toolkit_threads(void);
/// Name of the instruction set in use, one of kernels/tiles.h: of those that only fixed16 has other
/// code for, float32 names the one they are part of. Null when TOOLKIT_ISA names one that
/// this processor lacks; operators fail then.
const char* toolkit_isa(void);
/// Switches to another instruction set; returns 0, and changes nothing, when this processor lacks
/// it.
int toolkit_select_isa(const char* isa);
/// Switches to float32, the default, or fixed16 for products with quantized weights; returns 0, and
/// changes nothing, for another name.
int toolkit_select_arithmetic(const char* arithmetic);
/// Installs a function that is told which weight bytes an operator has read for the last time (null
/// removes it); `rest` when it was told of all parts of the range before.
void toolkit_set_release_hook(void (*hook)(const void* data, size_t bytes, bool rest));
/// y [tokens, rows] = x Wᵀ, or with `transposed` dx [tokens, depth] = g W, outside ExecuTorch (for
/// measurements). W as in kernels/kernels.h; offset may be null. Returns 0 on failure.
int toolkit_multiply(const float* input, int64_t tokens, const uint8_t* codes,
                     const uint16_t* scale, const uint16_t* offset, int64_t rows, int64_t depth,
                     int bits, int transposed, float* output);
/// Bytes of scratch the operators hold.
size_t toolkit_workspace_bytes(void);
/// Gives the scratch back to the system.
void toolkit_workspace_trim(void);

#ifdef __cplusplus
}
#endif
