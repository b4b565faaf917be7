// Outlives pages of mapped weights, or of a state in a file, that cannot be read: storage that
// fails, a file that was cut off.
//
// The kernel sends SIGBUS to the thread that touched such a page. Where the page is one of the
// weights', the handler puts zeros there and the computation goes on to the end of its method,
// whose results are then thrown away with an error (WeightMapping::check); of a state, to where a
// layer of it is put away (SpillFile::drop). Any other SIGBUS goes to
// the handler that was there before, as if there was no guard.
#pragma once

#include "engine/memory/mapped_weights.h"

namespace toolkit {

class BusGuard {
 public:
  explicit BusGuard(MappedWeights& weights);
  ~BusGuard();
  BusGuard(const BusGuard&) = delete;
  BusGuard& operator=(const BusGuard&) = delete;
};

}  // namespace toolkit
