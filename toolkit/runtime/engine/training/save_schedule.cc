#include "engine/training/save_schedule.h"

namespace toolkit {

constexpr double kBytesPerSecond = 1e9 / 3600;

SaveSchedule::SaveSchedule(int64_t steps, bool asked, double minutes, int64_t bytes, double now)
    : steps_(steps),
      asked_(asked),
      interval_(60 * minutes),
      least_(double(bytes) / kBytesPerSecond),
      last_(now) {}

bool SaveSchedule::due(int64_t step, double now) {
  const bool by_step = steps_ > 0 && step % steps_ == 0;
  const bool by_time = interval_ > 0 && now - last_ >= interval_;
  if (by_step && asked_) return true;
  wanted_ = wanted_ || by_step || by_time;
  const bool due = wanted_ && now - last_ >= least_interval();
  stretched_ = stretched_ || (wanted_ && !due);
  return due;
}

void SaveSchedule::wrote(int64_t bytes) { beside_ += double(bytes) / kBytesPerSecond; }

void SaveSchedule::saved(double now) {
  last_ = now;
  beside_ = 0;
  wanted_ = false;
}

}  // namespace toolkit
