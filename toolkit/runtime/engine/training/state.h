// The resume state: everything a run needs to continue with the same bits.
//
// File, little-endian: magic "TKSTATE\0", version (4 bytes), length of the text (4 bytes), the
// text, the arrays one after the other, CRC-32 of all before it. The text has one line for each
// item, so that items can be added:
//
//   step N                 steps done
//   position N             of the sampler
//   held_out STEP SINCE_BEST BEST_STEP BEST_LOSS  of runs that go by it (held_out.h)
//   identity NAME VALUE    what a run must not change: content of its files, and settings
//   setting NAME VALUE     what it may
//   array NAME TENSOR TYPE COUNT  of a trained tensor: its values, NAME adapter, or what the
//     optimizer remembers of it, e.g. "array momentum layers.0.q_proj.lora_A float32 4096"
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/memory/memory.h"
#include "engine/training/held_out.h"

namespace toolkit {

struct Field {
  std::string name, value;
};

// Memory that is saved and loaded; its type is one of element_bytes().
struct StateArray {
  std::string name, tensor, type;
  int64_t count;  // elements
  void* data;
};

int64_t bytes_of(const std::vector<StateArray>& arrays);  // in the file

struct RunState {
  int64_t step = 0;      // steps done
  int64_t position = 0;  // of the sampler
  std::vector<Field> identity, settings;
  HeldOut held_out = {};
};

// Value of a field, or null when there is none of that name.
const std::string* find_field(const std::vector<Field>& fields, const std::string& name);

void save_state(const std::string& path, const RunState& state,
                const std::vector<StateArray>& arrays, const Visited& visited = {});

// Fills `arrays`, which must be those of the file. Throws Error when the file is damaged or belongs
// to a run of another `identity` (run_identity.h); the arrays are then undefined.
RunState load_state(const std::string& path, const std::vector<Field>& identity,
                    const std::vector<StateArray>& arrays, const Visited& visited = {});

}  // namespace toolkit
