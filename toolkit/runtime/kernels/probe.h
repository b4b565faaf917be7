// Parts of kernels_probe.
#pragma once

#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace toolkit {

using Words = std::vector<std::string>;

inline int64_t integer(const std::string& word) { return atoll(word.c_str()); }

/// Of regions, see the head of probe.cc.
void share_work(const Words& words);
void ranges(const Words& words);
void chores(const Words& words);
void late(const Words& words);

/// Runs every kernel on odd shapes with one thread and with so many, in fixed16 those with products
/// of moderate size only, and prints "isa arithmetic"; nothing where this processor lacks it.
/// Throws Error naming one whose results differ or are not finite.
void check_kernels(const char* isa, const char* arithmetic, const std::vector<int>& thread_counts);

/// Throws Error where linear layers of a few rows have other bits together than one by one.
void check_few_rows(const Kernels& k);

/// Prints "isa digest" of the bits of products in fixed16 with weights of every kind, from numbers
/// that are the same on all processors.
void print_products(const Words& words);

}  // namespace toolkit
