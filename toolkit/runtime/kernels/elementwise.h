// What element-wise operators share.
#pragma once

#include <cstdint>

namespace toolkit {

constexpr int64_t kLeastFloats = 4096;  // worth a range of their own

}  // namespace toolkit
