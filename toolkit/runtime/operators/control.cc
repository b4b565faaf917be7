#include "operators/control.h"

#include <string>

#include "kernels/error.h"
#include "kernels/kernels.h"
#include "kernels/parallel.h"
#include "kernels/release.h"
#include "kernels/workspace.h"

#define TOOLKIT_EXPORT __attribute__((visibility("default")))

namespace {

thread_local std::string last_error;

/// Runs a body; returns whether it threw nothing.
template <typename Body>
bool done(Body body) noexcept {
  try {
    body();
    return true;
  } catch (const std::exception& error) {
    last_error = error.what();
    return false;
  }
}

}  // namespace

extern "C" {
TOOLKIT_EXPORT int toolkit_set_threads(int count) {
  return done([&] { toolkit::set_threads(count); });
}
TOOLKIT_EXPORT int toolkit_threads(void) { return toolkit::threads(); }
TOOLKIT_EXPORT const char* toolkit_isa(void) {
  const char* isa = nullptr;
  done([&] { isa = toolkit::kernels().isa; });
  return isa;
}
TOOLKIT_EXPORT int toolkit_select_isa(const char* isa) {
  bool selected = false;
  done([&] { selected = toolkit::select_isa(isa); });
  return selected;
}
TOOLKIT_EXPORT int toolkit_select_arithmetic(const char* arithmetic) {
  return toolkit::select_arithmetic(arithmetic);
}
TOOLKIT_EXPORT void toolkit_set_release_hook(void (*hook)(const void*, size_t, bool)) {
  toolkit::set_release_hook(hook);
}
TOOLKIT_EXPORT int toolkit_multiply(const float* input, int64_t tokens, const uint8_t* codes,
                                    const uint16_t* scale, const uint16_t* offset, int64_t rows,
                                    int64_t depth, int bits, int transposed, float* output) {
  const toolkit::QuantizedMatrix w{codes, scale, offset, rows, depth, bits};
  return done([&] {
    const auto lock = toolkit::exclusive_use();
    if (transposed != 0) {
      toolkit::kernels().linear_backward(input, nullptr, nullptr, tokens, w, {}, 0.0f, output, {});
    } else {
      toolkit::kernels().linear(input, tokens, w, nullptr, {}, 0.0f, output, nullptr);
    }
  });
}
TOOLKIT_EXPORT size_t toolkit_workspace_bytes(void) { return toolkit::workspace_bytes(); }
TOOLKIT_EXPORT void toolkit_workspace_trim(void) { toolkit::workspace_trim(); }
TOOLKIT_EXPORT const char* toolkit_last_error(void) { return last_error.c_str(); }
}
