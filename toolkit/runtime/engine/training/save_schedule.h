// When a run saves: every so many steps and every so many minutes, whichever comes first. A phone's
// storage wears, so unless the steps were asked for, saves are so far apart that they write no more
// than 1 GB an hour. (Pausing, stopping and ending save in any case.)
#pragma once

#include <cstdint>

namespace toolkit {

class SaveSchedule {
 public:
  // `steps` or `minutes` of 0 do not count; `asked` is whether the steps were given, not the
  // default. A save writes `bytes`; times are seconds of any clock, the run begins at `now`.
  SaveSchedule(int64_t steps, bool asked, double minutes, int64_t bytes, double now);

  // Whether a save is due after this step.
  bool due(int64_t step, double now);
  void saved(double now);
  // So many bytes were written beside saves: the next one waits for them, too.
  void wrote(int64_t bytes);

  // Least seconds between saves so that they write no more than 1 GB an hour.
  double least_interval() const { return least_ + beside_; }
  // Whether saves are further apart than asked for, once there was one to put off.
  bool stretched() const { return stretched_; }

 private:
  const int64_t steps_;
  const bool asked_;
  const double interval_;
  const double least_;
  double beside_ = 0;  // more of them, until the next save
  double last_;
  bool wanted_ = false;  // put off until it may be
  bool stretched_ = false;
};

}  // namespace toolkit
