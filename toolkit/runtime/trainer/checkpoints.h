// The hidden states between blocks: state (i, s) is the input of block i for sequence s, later the
// gradient that arrives there. States live in RAM or in an unlinked file of the run directory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/files.h"
#include "trainer/memory.h"

namespace toolkit {

enum class CheckpointPlace { automatic, ram, spill };
CheckpointPlace checkpoints_from(const std::string& name);  // throws UsageError

class HiddenStates {
 public:
  // States 0..layers for every sequence, `bytes` each. A spill file is made in `directory` when the
  // place is spill, or automatic and the states would take more than 16 MiB or an eighth of the
  // memory that is available.
  HiddenStates(int64_t layers, int64_t sequences, size_t bytes, CheckpointPlace place,
               const std::string& directory);

  bool spilled() const { return file_.is_open(); }
  // Memory for one state that is not yet any; give it a place with put().
  float* acquire();
  void put(int64_t layer, int64_t sequence, float* buffer);  // replaces what was there
  const float* get(int64_t layer, int64_t sequence);         // reads it back if it was spilled
  float* edit(int64_t layer, int64_t sequence);              // the same, to be changed in place
  void drop(int64_t layer, int64_t sequence);
  void move(int64_t from, int64_t to, int64_t sequence);  // replaces what was there
  // The state will be needed much later: moves it to the file if there is one.
  void park(int64_t layer, int64_t sequence);
  // The state will be needed for the next layer: moves it out only when there are many sequences.
  void rest(int64_t layer, int64_t sequence);
  // Starts reading a parked state into the page cache.
  void prefetch(int64_t layer, int64_t sequence) const;
  // Forgets all states, for a new step.
  void clear();
  // Forgets all states and gives their memory back.
  void release();

 private:
  struct State {
    float* buffer = nullptr;
    bool in_file = false;
  };
  State& at(int64_t layer, int64_t sequence) { return states_[layer * sequences_ + sequence]; }
  int64_t offset(int64_t layer, int64_t sequence) const {
    return (layer * sequences_ + sequence) * int64_t(bytes_);
  }
  void spill(int64_t layer, int64_t sequence);

  int64_t sequences_;
  size_t bytes_;
  bool keep_front_;
  std::vector<State> states_;
  std::vector<Buffer> buffers_;
  std::vector<float*> free_;
  File file_;
};

}  // namespace toolkit
