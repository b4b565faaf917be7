#include "engine/memory/dry_step.h"

#include <algorithm>

#include "engine/memory/mapped_weights.h"
#include "engine/runtime.h"
#include "kernels/kernels.h"
#include "kernels/workspace.h"

namespace toolkit {
namespace {

thread_local DryStep* current_step = nullptr;

}  // namespace

DryStep::DryStep(int threads) : operators_(kernels().isa, threads, kernels().arithmetic.name) {
  current_step = this;
}

DryStep::~DryStep() { current_step = nullptr; }

DryStep* DryStep::current() { return current_step; }

void DryStep::note(const char* phase, size_t mapped) {
  const size_t granules = (operators_.take_peak() + kScratchGranule - 1) / kScratchGranule;
  scratch_ = std::max(scratch_, granules * kScratchGranule);
  // Of the weights those that one operator reads, and those that are not yet given back.
  const size_t read = operators_.take_read();
  const size_t base = read == 0 ? 0 : std::min(mapped, read + MappedWeights::kBatchBytes);
  const Ledger& ledger = Runtime::current()->ledger();
  int64_t total = int64_t(base);
  for (int i = 0; i < kCategories; ++i) total += ledger.get(Category(i));
  if (total <= total_) return;
  total_ = total;
  phase_ = phase;
  for (int i = 0; i < kCategories; ++i) held_[i] = ledger.get(Category(i));
  held_[int(Category::base)] += int64_t(base);
}

int64_t DryStep::held(Category category) const {
  return held_[int(category)] + (category == Category::scratch ? int64_t(scratch_) : 0);
}

int64_t DryStep::peak() const { return total_ + int64_t(scratch_); }

}  // namespace toolkit
