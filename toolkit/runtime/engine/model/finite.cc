#include "engine/model/finite.h"

#include <cstdint>
#include <cstring>

namespace toolkit {

bool all_finite(const float* values, size_t count) {
  constexpr int32_t kMagnitude = 0x7FFFFFFF, kLargest = 0x7F7FFFFF;  // FLT_MAX
  constexpr size_t kBlock = 4096;  // looked at after each, so that a bad start ends early
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t end = count - begin < kBlock ? count : begin + kBlock;
    int32_t beyond = 0;
    for (size_t i = begin; i < end; ++i) {
      int32_t bits;
      std::memcpy(&bits, values + i, sizeof(bits));
      beyond |= kLargest - (bits & kMagnitude);  // negative beyond the largest
    }
    if (beyond < 0) return false;
  }
  return true;
}

}  // namespace toolkit
