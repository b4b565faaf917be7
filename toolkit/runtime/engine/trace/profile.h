// What a phase's operators took, and what was resident meanwhile.
//
// Residency is read whenever a kernel is about to give weights back and after operators; the
// reading with the largest total is kept, with what the engine held then. The kernel's high-water
// mark says how much there was; this says of what, independently of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/memory/memory.h"

namespace toolkit {

struct Residency {
  int64_t total_kib = 0;
  int64_t file_kib = 0;  // pages of files: libraries, weights, data
};

Residency resident_now();  // from /proc/self/statm

struct OperatorTime {
  const char* name;
  int64_t calls, nanoseconds;
};

// Part of the open Runtime; the thread that runs the engine uses it.
class Profile {
 public:
  explicit Profile(const Ledger& ledger) : ledger_(ledger) {}
  // Without it nothing is measured.
  void enable();
  void begin();
  void sample();
  Residency baseline() const { return baseline_; }  // at begin()
  Residency peak() const { return peak_; }          // reading with the largest total since
  int64_t held(Category category) const { return held_[int(category)]; }  // bytes, at the peak
  // Of it what is pages of files, beyond those at begin().
  int64_t held_of_file() const { return of_file_ - of_file_before_; }
  std::string operators_json() const;  // {"name": {"calls": 1, "ns": 2}, ...}

 private:
  void keep(const Residency& present);
  void add(const char* name, int64_t nanoseconds);

  const Ledger& ledger_;
  bool enabled_ = false;
  Residency baseline_, peak_;
  int64_t held_[kCategories] = {};
  int64_t of_file_ = 0, of_file_before_ = 0;
  int64_t unsampled_ = 0;  // ns of operators since the last reading
  std::vector<OperatorTime> times_;
};

}  // namespace toolkit
