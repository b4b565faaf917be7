// Learning rates, the formulas of transformers' get_{constant,linear,cosine}_schedule_with_warmup.
#pragma once

#include <cstdint>
#include <string>

namespace toolkit {

enum class Schedule { constant, linear, cosine };

Schedule schedule_from(const std::string& name);  // throws UsageError

// Factor of the learning rate at optimizer step `step` (0-based), of `total` steps with `warmup`.
double schedule_factor(Schedule schedule, int64_t step, int64_t warmup, int64_t total);

}  // namespace toolkit
