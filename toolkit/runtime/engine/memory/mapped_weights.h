// The weights that are mapped at present: which of their pages the kernels are done with, and
// whether all of them could be read.
//
// Owned by the thread that runs the methods; the kernels' release hook is called, and what it
// leaves for later is done, from there. Only patch() is called from elsewhere.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/memory/prefetcher.h"
#include "engine/trace/profile.h"

namespace toolkit {

class MappedWeights {
 public:
  // Pages that were used are given back when there are so many bytes of them.
  static constexpr size_t kBatchBytes = 1 << 20;

  explicit MappedWeights(Profile& profile) : profile_(profile) {}

  // `reader`, unless null, is told what was used; pages of a range that `stays` are never given
  // back. Throws Error when there is no place left.
  void add(void* address, size_t bytes, Prefetcher* reader, bool stays = false);
  void remove(void* address);

  // The kernels' release hook: pages of such a range may go.
  void released(const void* data, size_t bytes, bool rest);

  // The one file of a run's state, of which a page may fail as well.
  void add_state(void* address, size_t bytes);
  void remove_state() { state_.begin = state_.end = 0; }

  // If the address is one of the mapped weights' or of the state: puts zeros from its page to the
  // end of its range, remembers that, and returns true. For a signal handler, where reading a page
  // failed.
  bool patch(uintptr_t address);
  // The first address of a range that was patched; 0 while all of it could be read.
  uintptr_t patched(const void* address) const;
  bool state_patched() const { return state_.patched != 0; }

 private:
  struct Range {
    std::atomic<uintptr_t> begin{0}, end{0};
    std::atomic<uintptr_t> patched{0};
    Prefetcher* reader = nullptr;
    bool stays = false;
    int64_t used = 0;  // bytes the reader has not been told of
  };
  struct Pending {
    uintptr_t begin, end;
  };
  // Tensors of one method that do not lie beside each other in the file have a range each.
  static constexpr int kMaxRanges = 64;
  static constexpr int kMaxPending = 32;

  Range* range_of(uintptr_t begin, uintptr_t end);
  void join_pending();
  void give_back_pending();

  Profile& profile_;
  Range ranges_[kMaxRanges];
  Range state_;
  Pending pending_[kMaxPending];
  int pending_count_ = 0;
  size_t pending_bytes_ = 0;
  bool waits_ = false;  // for the start of a region
};

}  // namespace toolkit
