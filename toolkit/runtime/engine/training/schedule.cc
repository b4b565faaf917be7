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

double schedule_floor(const Options& options) {
  if (options.min_lr == 0) return 0;
  if (schedule_from(options.schedule) == Schedule::constant) {
    fail_usage("--min-lr is for --schedule linear or cosine, and constant does not read it");
  }
  if (options.min_lr > options.lr) {
    fail_usage("--min-lr %g is above --lr %g. Choose a smaller one", options.min_lr, options.lr);
  }
  return options.min_lr / options.lr;
}

double schedule_factor(Schedule schedule, int64_t step, int64_t warmup, int64_t total,
                       double floor) {
  if (step < warmup) return double(step) / double(std::max<int64_t>(1, warmup));
  const double rest = double(std::max<int64_t>(1, total - warmup));
  double factor = 1.0;
  if (schedule == Schedule::linear) {
    factor = std::max(0.0, double(total - step) / rest);
  } else if (schedule == Schedule::cosine) {
    factor = std::max(0.0, 0.5 * (1.0 + std::cos(M_PI * (double(step - warmup) / rest))));
  }
  return floor + (1.0 - floor) * factor;
}

}  // namespace toolkit
