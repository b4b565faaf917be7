#include "engine/training/norms.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "kernels/parallel.h"

namespace toolkit {

double sum_of_squares(const float* values, size_t count) {
  // Slices and several sums in each, the same whatever the number of threads.
  constexpr int64_t kSlices = 64, kSums = 8;
  double slices[kSlices] = {};
  parallel(kSlices, [&](int64_t first, int64_t last, int) {
    for (int64_t slice = first; slice < last; ++slice) {
      size_t i = count * slice / kSlices;
      const size_t end = count * (slice + 1) / kSlices;
      double sums[kSums] = {};
      for (; i + kSums <= end; i += kSums) {
        for (size_t j = 0; j < kSums; ++j) sums[j] += double(values[i + j]) * double(values[i + j]);
      }
      for (; i < end; ++i) sums[0] += double(values[i]) * double(values[i]);
      slices[slice] = std::accumulate(sums, sums + kSums, 0.0);
    }
  });
  return std::accumulate(slices, slices + kSlices, 0.0);
}

double clip_factor(double norm, double max_norm) { return std::min(1.0, max_norm / (norm + 1e-6)); }

}  // namespace toolkit
