// Parts of kernels_probe.
#pragma once

#include <string>

namespace toolkit {

/// Runs every kernel of an instruction set on odd shapes with 1, 2 and 4 threads; returns the name
/// of one whose results differ between them or are not finite, and an empty string otherwise.
std::string run_all_kernels(const char* isa);

}  // namespace toolkit
