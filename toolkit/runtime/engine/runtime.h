// What the engine holds of its process while it works: the kernels' threads and scratch, the
// account of memory, the profile, the mapped weights. One is open at a time; all that changes in
// the engine belongs to it and goes with it.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "engine/memory/bus_guard.h"
#include "engine/memory/mapped_weights.h"
#include "engine/memory/memory.h"
#include "engine/trace/profile.h"
#include "kernels/kernels.h"

namespace toolkit {

class Runtime {
 public:
  // `threads` for the kernels; 0: the device's fast cores; `arithmetic` one of kArithmetics. Throws
  // Error where another one is open, and where the threads cannot be started.
  explicit Runtime(int64_t threads, const std::string& arithmetic = kArithmetics[0]);
  // Ends the threads, gives scratch and freed memory back to the system, takes the kernels' hooks
  // and the signal handler away.
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // The open one, for hooks that carry no context; null where there is none. Safe in signal
  // handlers.
  static Runtime* current();

  // Bytes handed to write() since it was opened, and those of a state in a file that changed.
  int64_t bytes_written() const { return written_; }
  void count_written(int64_t bytes) { written_ += bytes; }
  // ExecuTorch's last complaint, empty without one.
  void keep_message(const char* text, size_t length);
  std::string last_message() const;

  Ledger& ledger() { return ledger_; }
  Profile& profile() { return profile_; }
  MappedWeights& weights() { return weights_; }
  const MappedWeights& weights() const { return weights_; }

 private:
  // Held from before the first change to after the last.
  struct Claim {
    Claim();
    ~Claim();
  };
  void close();

  const Claim claim_;
  std::atomic<int64_t> written_{0};
  mutable std::mutex messages_;
  char message_[256] = "";
  Ledger ledger_;
  Profile profile_{ledger_};
  MappedWeights weights_{profile_};
  BusGuard guard_{weights_};
};

}  // namespace toolkit
