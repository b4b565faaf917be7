// The hidden states between blocks: state (i, s) is the input of block i for sequence s, later the
// gradient that arrives there. Behind those of all layers may come as many that blocks keep beside
// their inputs. States live in RAM or in an unlinked file of the run directory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/files/files.h"
#include "engine/memory/memory.h"

namespace toolkit {

enum class CheckpointPlace { automatic, ram, spill };
CheckpointPlace checkpoints_from(const std::string& name);  // throws UsageError

// Where they went and why.
struct CheckpointChoice {
  bool spilled = false;
  int64_t bytes = 0;   // of all states of a step
  std::string reason;  // "they fit into a quarter of the 3.1 GB that are free"
};
// `automatic` keeps them in RAM as long as they take at most a quarter of the memory that is
// available: a phone's storage wears, and other programs need the rest.
CheckpointChoice choose_place(CheckpointPlace place, int64_t bytes, int64_t available_kib);

class HiddenStates {
 public:
  // States 0..layers for every sequence, `bytes` each, and with `kept` another one of every layer.
  // A spill file of their whole size is made in `directory` where they do not stay in RAM. Throws
  // Error when the storage has no room for it.
  HiddenStates(int64_t layers, bool kept, int64_t sequences, size_t bytes, CheckpointPlace place,
               const std::string& directory);

  // Number of the state that a layer keeps beside its input.
  int64_t kept(int64_t layer) const { return layers_ + 1 + layer; }
  const CheckpointChoice& choice() const { return choice_; }
  bool spilled() const { return choice_.spilled; }
  // Handed to the file so far. What is overwritten before it reaches the storage costs nothing
  // there.
  int64_t spilled_bytes() const { return spilled_bytes_; }
  // Memory for one state that is not yet any; give it a place with put(), or give it back.
  float* acquire();
  void give_back(float* buffer) { free_.push_back(buffer); }
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

  int64_t layers_, sequences_;
  size_t bytes_;
  CheckpointChoice choice_;
  bool keep_front_ = true;
  int64_t spilled_bytes_ = 0;
  std::vector<State> states_;
  std::vector<Buffer> buffers_;
  std::vector<float*> free_;
  const bool dry_;  // nothing is stored
  File file_;
};

}  // namespace toolkit
