// The resume state: everything a run needs to continue with the same bits.
//
// File, little-endian: magic "TKSTATE\0", version, StateHeader, adapter values, optimizer arrays,
// checksum of all before it. Values are stored with the padding of AdapterLayout.
#pragma once

#include <cstdint>
#include <string>

#include "trainer/adapter.h"
#include "trainer/optimizer.h"

namespace toolkit {

struct RunIdentity {
  uint64_t fingerprint = 0;  // of the bundle and its adapter layout
  std::string optimizer;     // "adamw"
  uint64_t seed = 0;
  int64_t samples = 0;             // in the training data
  int64_t sequences_per_step = 0;  // batch size * accumulation
  int64_t shuffled = 1;
};

struct Progress {
  int64_t step = 0;      // steps done
  int64_t position = 0;  // of the sampler
};

void save_state(const std::string& path, const RunIdentity& identity, const Progress& progress,
                const Buffer& values, Optimizer& optimizer);

// Throws Error when the file is damaged or belongs to a different run; values and optimizer arrays
// are then undefined.
Progress load_state(const std::string& path, const RunIdentity& identity, Buffer& values,
                    Optimizer& optimizer);

}  // namespace toolkit
