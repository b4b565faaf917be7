#include "engine/training/schedule.h"

#include <algorithm>
#include <cmath>

#include "engine/error.h"

namespace toolkit {

Schedule schedule_from(const std::string& name) {
  if (name == "constant") return Schedule::constant;
  if (name == "linear") return Schedule::linear;
  if (name == "cosine") return Schedule::cosine;
  fail_usage("unknown schedule '%s'. Choose constant, linear or cosine", name.c_str());
}

double schedule_factor(Schedule schedule, int64_t step, int64_t warmup, int64_t total) {
  if (step < warmup) return double(step) / double(std::max<int64_t>(1, warmup));
  const double rest = double(std::max<int64_t>(1, total - warmup));
  switch (schedule) {
    case Schedule::linear:
      return std::max(0.0, double(total - step) / rest);
    case Schedule::cosine:
      return std::max(0.0, 0.5 * (1.0 + std::cos(M_PI * (double(step - warmup) / rest))));
    default:
      return 1.0;
  }
}

}  // namespace toolkit
