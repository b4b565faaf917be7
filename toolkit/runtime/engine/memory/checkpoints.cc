#include "engine/memory/checkpoints.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "engine/error.h"
#include "engine/memory/dry_step.h"
#include "engine/memory/memory_stats.h"

namespace toolkit {
namespace {

constexpr int64_t kShareOfFree = 4;  // a quarter of free memory
constexpr size_t kFrontLimit = 4 << 20;

// Has the storage set aside what the file will need: a run that began does not end because of it.
// Storage that cannot do that goes without.
void reserve(const File& file, int64_t bytes) {
  if (fallocate(file.fd(), 0, 0, bytes) == 0) return;
  if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
    fail_errno("make room for checkpoints in", file.path());
  }
}

}  // namespace

CheckpointPlace checkpoints_from(const std::string& name) {
  if (name == "auto") return CheckpointPlace::automatic;
  if (name == "ram") return CheckpointPlace::ram;
  if (name == "spill") return CheckpointPlace::spill;
  fail_usage("unknown place '%s' for checkpoints. Choose auto, ram or spill", name.c_str());
}

CheckpointChoice choose_place(CheckpointPlace place, int64_t bytes, int64_t available_kib) {
  if (place != CheckpointPlace::automatic) {
    return {place == CheckpointPlace::spill, bytes, "as asked for"};
  }
  if (available_kib <= 0) return {false, bytes, "how much memory is free is not known"};
  const int64_t free = available_kib * 1024;
  const bool fits = bytes <= free / kShareOfFree;
  return {!fits, bytes,
          format("they %s a quarter of the %s that are free", fits ? "fit into" : "take more than",
                 size_text(free).c_str())};
}

HiddenStates::HiddenStates(int64_t layers, bool kept, int64_t sequences, size_t bytes,
                           CheckpointPlace place, const std::string& directory)
    : layers_(layers),
      sequences_(sequences),
      bytes_(bytes),
      states_((layers + 1 + (kept ? layers : 0)) * sequences),
      dry_(DryStep::current() != nullptr) {
  choice_ = choose_place(place, int64_t(states_.size() * bytes), memory_available_kib());
  keep_front_ = !choice_.spilled || size_t(sequences) * bytes <= kFrontLimit;
  if (!choice_.spilled || dry_) return;
  const std::string path = directory + "/checkpoints.tmp";
  file_ = File(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  remove_file(path);
  reserve(file_, choice_.bytes);
}

float* HiddenStates::acquire() {
  if (free_.empty()) {
    buffers_.emplace_back(bytes_, Category::checkpoints, "toolkit checkpoints");
    return buffers_.back().floats();
  }
  float* buffer = free_.back();
  free_.pop_back();
  return buffer;
}

void HiddenStates::put(int64_t layer, int64_t sequence, float* buffer) {
  drop(layer, sequence);
  at(layer, sequence).buffer = buffer;
}

const float* HiddenStates::get(int64_t layer, int64_t sequence) {
  State& state = at(layer, sequence);
  if (state.buffer == nullptr) {
    if (!state.in_file) fail("a hidden state is missing. Report this as a bug");
    state.buffer = acquire();
    if (!dry_) file_.read_at(state.buffer, bytes_, offset(layer, sequence));
  }
  return state.buffer;
}

float* HiddenStates::edit(int64_t layer, int64_t sequence) {
  get(layer, sequence);
  State& state = at(layer, sequence);
  state.in_file = false;
  return state.buffer;
}

void HiddenStates::move(int64_t from, int64_t to, int64_t sequence) {
  put(to, sequence, edit(from, sequence));
  at(from, sequence) = State();
}

void HiddenStates::drop(int64_t layer, int64_t sequence) {
  State& state = at(layer, sequence);
  if (state.buffer != nullptr) free_.push_back(state.buffer);
  state = State();
}

void HiddenStates::spill(int64_t layer, int64_t sequence) {
  State& state = at(layer, sequence);
  if (state.buffer == nullptr) return;
  if (!state.in_file) {
    if (!dry_) file_.write_at(state.buffer, bytes_, offset(layer, sequence));
    spilled_bytes_ += int64_t(bytes_);
  }
  state.in_file = true;
  free_.push_back(state.buffer);
  state.buffer = nullptr;
}

void HiddenStates::park(int64_t layer, int64_t sequence) {
  if (spilled()) spill(layer, sequence);
}

void HiddenStates::rest(int64_t layer, int64_t sequence) {
  if (!keep_front_) spill(layer, sequence);
}

void HiddenStates::prefetch(int64_t layer, int64_t sequence) const {
  if (!spilled() || dry_) return;
  posix_fadvise(file_.fd(), offset(layer, sequence), bytes_, POSIX_FADV_WILLNEED);
}

void HiddenStates::clear() {
  for (State& state : states_) {
    if (state.buffer != nullptr) free_.push_back(state.buffer);
    state = State();
  }
}

void HiddenStates::release() {
  clear();
  free_.clear();
  buffers_.clear();
}

}  // namespace toolkit
