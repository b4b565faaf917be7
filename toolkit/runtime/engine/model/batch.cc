#include "engine/model/batch.h"

#include <algorithm>

namespace toolkit {

Batch::Batch(const Dataset& data, int64_t sequences) : data_(data), sequences_(sequences) {}

Frame Batch::frame(const int64_t* samples) {
  if (sequences_ == 1) return frame_of(data_, *samples);
  if (!std::equal(samples_.begin(), samples_.end(), samples, samples + sequences_)) fill(samples);
  const int64_t tokens = sequences_ * data_.seq_len();
  Frame frame;
  frame.tokens = rows_.data();
  frame.labels = rows_.data() + tokens;
  frame.positions = rows_.data() + 2 * tokens;
  frame.start = rows_.data() + 3 * tokens;
  return frame;
}

void Batch::fill(const int64_t* samples) {
  const int64_t length = data_.seq_len(), tokens = sequences_ * length;
  samples_.clear();  // Reading may throw.
  rows_.resize(4 * tokens);
  for (int64_t b = 0; b < sequences_; ++b) {
    int32_t* row = rows_.data() + b * length;
    std::copy_n(data_.tokens(samples[b]), length, row);
    std::copy_n(data_.labels(samples[b]), length, row + tokens);
    std::copy_n(data_.positions(samples[b]), length, row + 2 * tokens);
    const int32_t* start = data_.start(samples[b]);
    for (int64_t t = 0; t < length; ++t) row[3 * tokens + t] = int32_t(b * length) + start[t];
  }
  samples_.assign(samples, samples + sequences_);
}

}  // namespace toolkit
