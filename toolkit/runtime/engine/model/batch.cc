#include "engine/model/batch.h"

#include <algorithm>

namespace toolkit {

Batch::Batch(const Dataset& data, int64_t sequences, int64_t rows)
    : data_(data), sequences_(sequences), rows_(rows) {}

Frame Batch::frame(const int64_t* samples, size_t place) {
  if (sequences_ == 1 && rows_.size() == 1) return frame_of(data_, *samples);
  Row& row = rows_[place];
  const auto& held = row.samples;
  if (!std::equal(held.begin(), held.end(), samples, samples + sequences_)) fill(samples, &row);
  const int64_t tokens = sequences_ * data_.seq_len();
  Frame frame;
  frame.tokens = row.values.data();
  frame.labels = row.values.data() + tokens;
  frame.positions = row.values.data() + 2 * tokens;
  frame.start = row.values.data() + 3 * tokens;
  return frame;
}

void Batch::fill(const int64_t* samples, Row* to) const {
  const int64_t length = data_.seq_len(), tokens = sequences_ * length;
  to->samples.clear();  // Reading may throw.
  to->values.resize(4 * tokens);
  for (int64_t b = 0; b < sequences_; ++b) {
    int32_t* row = to->values.data() + b * length;
    std::copy_n(data_.tokens(samples[b]), length, row);
    std::copy_n(data_.labels(samples[b]), length, row + tokens);
    std::copy_n(data_.positions(samples[b]), length, row + 2 * tokens);
    const int32_t* start = data_.start(samples[b]);
    for (int64_t t = 0; t < length; ++t) row[3 * tokens + t] = int32_t(b * length) + start[t];
  }
  to->samples.assign(samples, samples + sequences_);
}

}  // namespace toolkit
