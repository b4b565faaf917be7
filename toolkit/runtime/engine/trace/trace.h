// The trace of a run: JSON Lines, version 1. See toolkit/trace/schema.py for the records.
//
// Records are kept in memory and written at step ends; a sampler thread adds one every half second.
// A disk that is full does not stop a run: records wait in memory until it takes them, phases and
// samples only up to a limit.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "engine/files/files.h"
#include "engine/files/json.h"
#include "engine/memory/memory_stats.h"
#include "engine/trace/profile.h"
#include "engine/trace/sensors.h"

namespace toolkit {

class Phase;

enum class TraceLevel { full, steps, off };
TraceLevel trace_level_from(const std::string& name);  // throws UsageError

class Trace {
 public:
  // Measures only, writes nothing.
  explicit Trace(Profile& profile);
  // Starts trace.jsonl in `directory`, or continues it; a torn last line is cut off. Throws Error,
  // also when another process is writing this trace.
  Trace(Profile& profile, const std::string& directory, TraceLevel level, bool append);
  ~Trace();

  int64_t now() const;  // nanoseconds since the run record
  void start_sampler();
  void stop_sampler();

  // Appends a record; `members` are those after "type".
  void record(const char* type, const Json& members);
  void event(const char* name, const std::string& detail);
  void flush();  // writes what waits, as far as the storage takes it
  // Whether the trace that is continued says that its run was completed.
  bool was_completed() const { return was_completed_; }
  // Leaves the file as it is from now on.
  void mute();

  void begin_step(int64_t step);
  // Peak in KiB of the phases since begin_step().
  int64_t step_peak() const { return step_peak_; }
  int64_t run_peak() const { return run_peak_; }
  // Counts what happened outside of phases as well.
  void note_peak() { run_peak_ = std::max(run_peak_, proc_.memory().hwm); }
  int64_t written_bytes() const { return proc_.io().written_bytes; }
  bool can_reset_peak() const { return proc_.can_reset_peak(); }
  // Takes the present size for that of the runtime itself; everything later is accounted for.
  void measure_runtime() { runtime_ = resident_now(); }
  void close();  // writes what waits

 private:
  friend class Phase;
  struct Worst {
    int64_t hwm = 0, layer = -1;
    std::string phase;
  };

  enum class Worth { kept, detail };
  void append(const std::string& line, Worth worth);
  void end_phase(const Phase& phase);
  std::string ledger_json() const;
  void maybe_smaps(const Phase& phase);
  void sample();

  Profile& profile_;
  TraceLevel level_ = TraceLevel::off;
  int64_t start_ = 0;
  ProcReader proc_;
  std::unique_ptr<Sensors> sensors_;
  File file_;
  std::string buffer_;
  std::string unwritten_;  // that the storage has not taken; of the thread that runs
  int64_t left_out_ = 0;   // records since then
  bool was_completed_ = false;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_sampler_ = false;
  std::thread sampler_;

  int64_t step_ = 0, steps_seen_ = 0, step_peak_ = 0, run_peak_ = 0;
  Residency runtime_;
  Worst worst_;  // phase with the highest peak in the first step
  bool smaps_done_ = false;
};

// Measures from construction to end() or destruction: time, peak memory, I/O, ledger.
class Phase {
 public:
  Phase(Trace& trace, const char* name, int64_t layer = -1);
  ~Phase();
  // Reads what is resident; called before the weights are unmapped, which must happen before the
  // end so that the next phase's peak does not start with them.
  void snapshot();
  void end();

 private:
  friend class Trace;
  Trace& trace_;
  const char* name_;
  int64_t layer_;
  int64_t begin_;
  IoReading io_;
  bool ended_ = false;
};

std::string memory_json(const MemoryReading& reading);

}  // namespace toolkit
