// What the kernel says about this process: cheap reads of /proc through descriptors that stay open.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace toolkit {

// All in KiB.
struct MemoryReading {
  int64_t hwm = 0, rss_anon = 0, rss_file = 0, rss_shmem = 0, swap = 0;
  int64_t rss() const { return rss_anon + rss_file + rss_shmem; }
};

struct IoReading {
  int64_t major_faults = 0, minor_faults = 0, read_bytes = 0, written_bytes = 0;
};

class ProcReader {
 public:
  ProcReader();
  ~ProcReader();
  ProcReader(const ProcReader&) = delete;
  ProcReader& operator=(const ProcReader&) = delete;

  MemoryReading memory() const;
  IoReading io() const;     // bytes fall back to the engine's own count where the kernel gives none
  int64_t pss_kib() const;  // -1 when not available
  // Makes VmHWM start again from the present size. False where that is not permitted.
  bool reset_peak();
  bool can_reset_peak() const { return can_reset_; }

 private:
  int status_, io_, rollup_, clear_;
  bool can_reset_ = false;
};

struct MappingSize {
  std::string name;
  int64_t rss = 0, pss = 0, anonymous = 0;
};
// /proc/self/smaps summed by name, largest first.
std::vector<MappingSize> read_smaps();

// Gives back the pages of the program's and its libraries' code and constants. What loading them
// and opening a run took is most of it, and the steps map what they need again. For a process that
// is the engine's own.
void give_back_code();

int64_t memory_total_kib();  // 0 when unknown
// What programs can still get, at most what the process's control groups leave; 0 when unknown.
int64_t memory_available_kib();
// What the control groups in `list` (/proc/self/cgroup) leave of their limits, by the file system
// `mounted`; 0 without a limit.
int64_t group_rest_kib(const std::string& list, const std::string& mounted);

// Bytes this process had read from storage so far; -1 when not told.
int64_t storage_bytes_read();
// Page faults of this process that had to wait for storage.
int64_t major_faults();

// First line of a small file without its newline, empty when it cannot be read.
std::string read_line(const std::string& path);

}  // namespace toolkit
