// Where a training step that computes nothing finds its memory highest.
//
// The step is the real one: programs are loaded, states and gradients have their places, the ledger
// counts. Operators run dry (kernels/dry_run.h), files of a run are not made, and nothing that is
// counted is touched, so it takes a moment and little memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/memory/memory.h"
#include "kernels/dry_run.h"

namespace toolkit {

class DryStep {
 public:
  // On this thread, while it lives. Needs the open Runtime, whose arithmetic it has.
  explicit DryStep(int threads);
  ~DryStep();
  DryStep(const DryStep&) = delete;
  DryStep& operator=(const DryStep&) = delete;

  // That of this thread; null outside of one.
  static DryStep* current();

  // Takes what the ledger, the operators' scratch and the weights they read come to at this moment,
  // when a program of a phase has run. `mapped`: bytes of the weights that it may read.
  void note(const char* phase, size_t mapped);

  // The highest of all moments, in bytes.
  const char* phase() const { return phase_; }
  int64_t held(Category category) const;
  int64_t peak() const;

 private:
  DryRun operators_;
  size_t scratch_ = 0;  // of all operators so far: it keeps the size it grew to
  const char* phase_ = "";
  int64_t held_[kCategories] = {};
  int64_t total_ = 0;  // at the peak, without scratch
};

}  // namespace toolkit
