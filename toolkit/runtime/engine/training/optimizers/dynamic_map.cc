#include "engine/training/optimizers/dynamic_map.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace toolkit {
namespace {

constexpr int kDropped = 18;  // bits of a number that do not matter for where its search begins

uint32_t bits_of(float number) {
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof(bits));
  return bits;
}

float from_bits(uint32_t bits) {
  float number;
  std::memcpy(&number, &bits, sizeof(number));
  return number;
}

/// Element i of `count` numbers from 0.1 to 1 at equal distances, as torch.linspace rounds it.
float at_equal_distances(int i, int count) {
  const float first = 0.1f, last = 1.0f, step = (last - first) / float(count - 1);
  if (i < count / 2) return std::fmaf(step, float(i), first);
  return std::fmaf(-step, float(count - 1 - i), last);
}

/// Seven decades, each with twice as many values as the one below: the means of neighbours at equal
/// distances, and 0 and 1.
void fill(float* values, bool has_signs) {
  constexpr int kDecades = 7;
  int count = 0;
  for (int decade = 0; decade < kDecades; ++decade) {
    const int edges = (1 << (has_signs ? decade : decade + 1)) + 1;
    const float power = float(std::pow(10.0, decade - (kDecades - 1)));
    for (int i = 0; i + 1 < edges; ++i) {
      const float mean = (at_equal_distances(i, edges) + at_equal_distances(i + 1, edges)) / 2;
      values[count++] = power * mean;
      if (has_signs) values[count++] = -(power * mean);
    }
  }
  values[count++] = 0;
  values[count++] = 1;
  std::sort(values, values + count);
}

/// The smallest number that is rounded up from `low`: where its distance, in float32, is at least
/// half of that between the two.
float threshold(float low, float high) {
  const float half = (high - low) * 0.5f;
  float number = low + half;
  while (number - low >= half) number = std::nextafter(number, low);
  while (number - low < half) number = std::nextafter(number, high);
  return number;
}

}  // namespace

DynamicMap::DynamicMap(bool has_signs) : first_(size_t(1) << (32 - kDropped)) {
  fill(values_, has_signs);
  for (int i = 0; i < 255; ++i) next_[i] = threshold(values_[i], values_[i + 1]);
  next_[255] = std::numeric_limits<float>::infinity();
  for (uint32_t cell = 0; cell < first_.size(); ++cell) {
    const uint32_t bits = cell << kDropped, last = bits | ((1u << kDropped) - 1);
    const bool below_zero = (bits >> 31) != 0;
    const float smallest = from_bits(below_zero ? last : bits);
    const float* after = std::upper_bound(next_, next_ + 256, smallest);
    first_[cell] = std::isnan(smallest) ? 0 : uint8_t(std::min<int64_t>(after - next_, 255));
  }
}

uint8_t DynamicMap::code(float number) const {
  uint8_t code = first_[bits_of(number) >> kDropped];
  while (number >= next_[code]) ++code;
  return code;
}

}  // namespace toolkit
