// Reads frozen weights ahead of the computation, and has the page cache forget them behind it where
// it could not keep them anyway.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/files/files.h"

namespace toolkit {

// Place of one tensor in base.ptd.
struct WeightRef {
  int64_t offset = 0;
  int64_t bytes = 0;
};

// What becomes of weights in the page cache once they were used. Kept, the next pass finds them
// there. But where memory is short the kernel has to find and drop them, page by page and beside
// the computation, and drops what was read ahead and other programs' files as well; dropped behind
// the computation, they take a few megabytes. `automatic` keeps a file that fits into free memory
// as a whole.
enum class PageCache { automatic, keep, drop };
PageCache page_cache_from(const std::string& name);  // throws UsageError

// Weights of a part of the computation. It needs all of them until its end, or, `in_stride`, goes
// through them from their starts to their ends, `sweeps` times.
struct WeightStage {
  std::vector<WeightRef> refs;
  bool in_stride = false;
  int64_t sweeps = 1;
};

// A thread that reads the stages of a plan in their order, as far ahead of the computation as a
// window of bytes allows, across the bounds of stages: one that computes long gives one that
// computes briefly its time. When a plan's weights all came from the page cache, the next plan's
// are expected there too and not asked for.
class Prefetcher {
 public:
  // Asks for so many bytes at a time, or from 1 MiB on reads in sequence; 0: by what the file's
  // storage is set to read ahead.
  explicit Prefetcher(const File& file, PageCache page_cache = PageCache::automatic,
                      int64_t request_bytes = 0);
  ~Prefetcher();

  // What comes next; earlier plans are forgotten.
  void plan(const std::vector<WeightStage>& stages);
  // Whether the plan's weights are asked for.
  bool reads();
  // Whether the page cache is to forget what was used.
  bool drops();
  // The plan's stage of this number begins, those before it are done.
  void begin(size_t stage);
  // The running stage is done with so many more bytes. From any thread.
  void used(int64_t bytes);

 private:
  struct Stage {
    std::vector<WeightRef> refs;
    bool in_stride = false;
    int64_t bytes = 0;           // of a sweep
    int64_t begin = 0, end = 0;  // among all bytes of the plan
  };

  void run();
  void work();
  bool next_read(WeightRef* range);
  std::vector<WeightRef> next_drop();
  static WeightRef piece(const Stage& stage, int64_t at);
  void read(const WeightRef& range);
  void drop(const WeightRef& range);
  void reopen();

  const PageCache page_cache_;
  const int64_t file_bytes_;
  File file_, sink_;
  int64_t request_bytes_;
  bool by_sink_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Stage> stages_;
  size_t stage_ = 0, read_stage_ = 0, drop_stage_ = 0;  // that runs, is read next, dropped next
  int64_t used_ = 0, read_at_ = 0, drop_at_ = 0;        // bytes of it
  int64_t storage_bytes_ = -1;                          // read by the process until the last plan
  bool reading_ = false, dropping_ = false, stop_ = false;
  std::thread thread_;
};

}  // namespace toolkit
