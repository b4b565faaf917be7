// Whether numbers are numbers.
#pragma once

#include <cstddef>

namespace toolkit {

// False if there is a NaN or an infinity among the values; as fast as memory is read.
bool all_finite(const float* values, size_t count);

}  // namespace toolkit
