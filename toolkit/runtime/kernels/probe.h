// Parts of kernels_probe.
#pragma once

#include <string>
#include <vector>

namespace toolkit {

/// Runs every kernel of an instruction set on odd shapes with one thread and with so many; returns
/// the name of one whose results differ between them or are not finite, and an empty string
/// otherwise.
std::string run_all_kernels(const char* isa, const std::vector<int>& thread_counts);

}  // namespace toolkit
