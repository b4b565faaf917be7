// 8-bit numbers of blocks (arXiv 2110.02861): each is a code of a map with 256 values in [-1, 1],
// or in [0, 1] without signs, times the largest magnitude of its block. The values are those of
// torchao and bitsandbytes, a code is that of the nearest value, as torchao finds it.
#pragma once

#include <cstdint>
#include <vector>

namespace toolkit {

class DynamicMap {
 public:
  explicit DynamicMap(bool has_signs);

  float value(uint8_t code) const { return values_[code]; }
  // Of a number in [-1, 1], in [0, 1] without signs.
  uint8_t code(float number) const;

 private:
  float values_[256];
  float next_[256];             // the smallest number that is nearer to the value after this one
  std::vector<uint8_t> first_;  // code of the smallest number that begins with the same bits
};

}  // namespace toolkit
