// Integer arithmetic on sizes. Always inlined: sources that are compiled once per instruction set
// include this, and must not leave functions for the linker to choose from.
#pragma once

#include <cstdint>

#define TOOLKIT_INLINE inline __attribute__((always_inline))

namespace toolkit {

constexpr int64_t kPanel = 16;       // rows of a weight's panel
constexpr int64_t kQuantGroup = 32;  // features that share a scale and an offset

TOOLKIT_INLINE constexpr int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
TOOLKIT_INLINE constexpr int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
TOOLKIT_INLINE constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
TOOLKIT_INLINE constexpr int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

/// Depth of one step through `depth`: equal parts of at most `most`, multiples of a quantization
/// group.
TOOLKIT_INLINE constexpr int64_t depth_step(int64_t depth, int64_t most) {
  const int64_t parts = divide_up(depth, most);
  return parts <= 1 ? depth : round_up(divide_up(depth, parts), kQuantGroup);
}

}  // namespace toolkit
