// Learning rates, the formulas of transformers' get_{constant,linear,cosine}_schedule_with_warmup;
// with a floor, of get_polynomial_decay_schedule_with_warmup and the cosine one with min_lr.
#pragma once

#include <cstdint>
#include <string>

#include "engine/training/options.h"

namespace toolkit {

enum class Schedule { constant, linear, cosine };

Schedule schedule_from(const std::string& name);  // throws UsageError

// Factor of the learning rate at optimizer step `step` (0-based), of `total` steps with `warmup`;
// what falls after the warm-up ends at `floor`.
double schedule_factor(Schedule schedule, int64_t step, int64_t warmup, int64_t total,
                       double floor);

// The share of --lr that --min-lr is. Throws UsageError if it is above 1, or if the schedule does
// not fall.
double schedule_floor(const Options& options);

}  // namespace toolkit
