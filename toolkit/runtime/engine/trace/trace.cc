#include "engine/trace/trace.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "engine/error.h"
#include "engine/memory/memory.h"

namespace toolkit {
namespace {

constexpr auto kSampleInterval = std::chrono::milliseconds(500);
constexpr size_t kMostDetail = 1 << 20;   // bytes that wait before phases are left out
constexpr size_t kMostWaiting = 4 << 20;  // before everything is
constexpr int64_t kLongestEnd = 4096;     // bytes of an end record

int64_t monotonic() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t(now.tv_sec) * 1000000000 + now.tv_nsec;
}

// Length of a file up to and including its last newline.
int64_t whole_lines(const File& file) {
  char chunk[4096];
  for (int64_t end = file.size(); end > 0;) {
    const int64_t begin = std::max<int64_t>(0, end - int64_t(sizeof(chunk)));
    file.read_at(chunk, end - begin, begin);
    for (int64_t i = end - begin; i-- > 0;) {
      if (chunk[i] == '\n') return begin + i + 1;
    }
    end = begin;
  }
  return 0;
}

// Whether the last line is the end record of a completed run; `end` is where it ends.
bool ends_completed(const File& file, int64_t end) {
  std::string text(size_t(std::min(end, kLongestEnd)), 0);
  file.read_at(text.data(), text.size(), end - int64_t(text.size()));
  const size_t before = text.size() < 2 ? std::string::npos : text.rfind('\n', text.size() - 2);
  const std::string line = before == std::string::npos ? text : text.substr(before + 1);
  return line.compare(0, 13, "{\"type\":\"end\"") == 0 &&
         line.find("\"status\":\"completed\"") != std::string::npos;
}

}  // namespace

TraceLevel trace_level_from(const std::string& name) {
  if (name == "full") return TraceLevel::full;
  if (name == "steps") return TraceLevel::steps;
  if (name == "off") return TraceLevel::off;
  fail_usage("unknown trace level '%s'. Choose full, steps or off", name.c_str());
}

std::string memory_json(const MemoryReading& reading) {
  return Json()
      .field("hwm", reading.hwm)
      .field("rss_anon", reading.rss_anon)
      .field("rss_file", reading.rss_file)
      .field("rss_shmem", reading.rss_shmem)
      .field("swap", reading.swap)
      .str();
}

Trace::Trace(Profile& profile) : profile_(profile), start_(monotonic()) { measure_runtime(); }

Trace::Trace(Profile& profile, const std::string& directory, TraceLevel level, bool append)
    : Trace(profile) {
  level_ = level;
  const std::string path = directory + "/trace.jsonl";
  file_ = File(path, O_RDWR | O_CREAT);
  if (flock(file_.fd(), LOCK_EX | LOCK_NB) != 0) {
    // Storage without locks is used without one.
    if (errno != EWOULDBLOCK && errno != ENOSYS && errno != EOPNOTSUPP) fail_errno("lock", path);
    if (errno == EWOULDBLOCK) {
      fail("another trainer is running in %s. Stop it or choose another directory",
           directory.c_str());
    }
  }
  const int64_t keep = append ? whole_lines(file_) : 0;
  was_completed_ = ends_completed(file_, keep);
  if (keep != file_.size() && ftruncate(file_.fd(), keep) != 0) fail_errno("write", path);
  if (lseek(file_.fd(), keep, SEEK_SET) < 0) fail_errno("write", path);
  if (level_ != TraceLevel::full) return;
  sensors_ = std::make_unique<Sensors>();
  profile_.enable();
}

Trace::~Trace() {
  try {
    close();
  } catch (const std::exception&) {
    // Its last records are lost with it.
  }
}

int64_t Trace::now() const { return monotonic() - start_; }

void Trace::start_sampler() {
  if (level_ != TraceLevel::full || sampler_.joinable()) return;
  sampler_ = std::thread([this] {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!wake_.wait_for(lock, kSampleInterval, [this] { return stop_sampler_; })) {
      lock.unlock();
      try {
        sample();
      } catch (const std::bad_alloc&) {
        // This look is left out; the run itself says what it lacks.
      }
      lock.lock();
    }
  });
}

void Trace::stop_sampler() {
  if (!sampler_.joinable()) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_sampler_ = true;
  }
  wake_.notify_one();
  sampler_.join();
}

void Trace::sample() {
  Json json;
  json.field("t", now()).raw("mem", memory_json(proc_.memory()));
  const int64_t pss = proc_.pss_kib();
  if (pss >= 0) json.field("pss", pss);
  const std::string battery = sensors_->battery(), thermal = sensors_->thermal();
  if (!battery.empty()) json.raw("battery", battery);
  if (!thermal.empty()) json.raw("thermal", thermal);
  record("sample", json);
}

void Trace::append(const std::string& line, Worth worth) {
  if (level_ == TraceLevel::off) return;
  std::lock_guard<std::mutex> lock(mutex_);
  if (buffer_.size() > (worth == Worth::detail ? kMostDetail : kMostWaiting)) {
    ++left_out_;
    return;
  }
  buffer_ += line;
  buffer_ += '\n';
}

void Trace::record(const char* type, const Json& members) {
  const std::string rest = members.str(), name = type;
  const Worth worth = name == "phase" || name == "sample" ? Worth::detail : Worth::kept;
  append("{\"type\":\"" + name + "\"" + (rest == "{}" ? "" : ",") + rest.substr(1), worth);
}

void Trace::event(const char* name, const std::string& detail) {
  Json json;
  json.field("t", now()).field("event", name);
  if (!detail.empty()) json.field("detail", detail);
  record("event", json);
}

void Trace::flush() {
  if (!file_.is_open()) return;
  int64_t left_out = 0;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (unwritten_.empty()) unwritten_.swap(buffer_);
  }
  // A line that was written in part is continued where it was broken off.
  unwritten_.erase(0, file_.write_some(unwritten_.data(), unwritten_.size()));
  if (!unwritten_.empty()) return;
  std::string().swap(unwritten_);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    std::swap(left_out, left_out_);
    if (left_out == 0 && buffer_.empty()) return;
  }
  if (left_out > 0) {
    event("trace_gap",
          format("%lld records are missing: the storage was full", (long long)left_out));
  }
  flush();
}

void Trace::mute() {
  std::lock_guard<std::mutex> lock(mutex_);
  buffer_.clear();
  level_ = TraceLevel::off;
}

void Trace::begin_step(int64_t step) {
  step_ = step;
  ++steps_seen_;
  step_peak_ = 0;
  if (level_ != TraceLevel::full) proc_.reset_peak();
  record("begin",
         Json().field("phase", "step").field("step", step).null("layer").field("t", now()));
  flush();
}

void Trace::close() {
  stop_sampler();
  flush();
  file_.close();
}

std::string Trace::ledger_json() const {
  int64_t bytes[kCategories];
  for (int i = 0; i < kCategories; ++i) bytes[i] = profile_.held(Category(i));
  // Pages of files beyond those at the phase's begin are weights, unless the ledger has them, the
  // others code of the runtime, some of which was first used or given back since it was measured.
  const Residency begin = profile_.baseline(), peak = profile_.peak();
  const int64_t more = (peak.file_kib - begin.file_kib) * 1024 - profile_.held_of_file();
  bytes[int(Category::base)] += std::max<int64_t>(0, more);
  bytes[int(Category::runtime)] += (runtime_.total_kib + begin.file_kib - runtime_.file_kib) * 1024;
  Json json;
  for (int i = 0; i < kCategories; ++i) json.field(category_name(Category(i)), bytes[i]);
  return json.str();
}

void Trace::end_phase(const Phase& phase) {
  const int64_t end = now();
  const MemoryReading memory = proc_.memory();
  step_peak_ = std::max(step_peak_, memory.hwm);
  run_peak_ = std::max(run_peak_, memory.hwm);
  if (level_ != TraceLevel::full) return;
  if (steps_seen_ == 1 && memory.hwm > worst_.hwm) {
    worst_ = {memory.hwm, phase.layer_, phase.name_};
  }
  const IoReading io = proc_.io();
  Json json;
  json.field("phase", phase.name_).field("step", step_);
  if (phase.layer_ < 0) json.null("layer");
  if (phase.layer_ >= 0) json.field("layer", phase.layer_);
  json.field("begin", phase.begin_).field("end", end).raw("mem", memory_json(memory));
  json.raw("io", Json()
                     .field("major_faults", io.major_faults - phase.io_.major_faults)
                     .field("minor_faults", io.minor_faults - phase.io_.minor_faults)
                     .field("read_bytes", io.read_bytes - phase.io_.read_bytes)
                     .field("written_bytes", io.written_bytes - phase.io_.written_bytes)
                     .str());
  json.raw("ledger", ledger_json());
  json.raw("operators", profile_.operators_json());
  record("phase", json);
  proc_.reset_peak();
}

void Trace::maybe_smaps(const Phase& phase) {
  if (level_ != TraceLevel::full || steps_seen_ != 2 || smaps_done_) return;
  if (worst_.phase != phase.name_ || worst_.layer != phase.layer_) return;
  smaps_done_ = true;
  std::string entries;
  for (const MappingSize& size : read_smaps()) {
    Json entry;
    entry.field("name", size.name).field("rss", size.rss).field("pss", size.pss);
    entry.field("anonymous", size.anonymous);
    entries += (entries.empty() ? "" : ",") + entry.str();
  }
  Json json;
  json.field("step", step_).field("phase", phase.name_);
  if (phase.layer_ < 0) json.null("layer");
  if (phase.layer_ >= 0) json.field("layer", phase.layer_);
  json.raw("entries", "[" + entries + "]");
  record("smaps", json);
}

Phase::Phase(Trace& trace, const char* name, int64_t layer)
    : trace_(trace), name_(name), layer_(layer), begin_(trace.now()) {
  if (trace.level_ != TraceLevel::full) return;
  io_ = trace.proc_.io();
  trace.profile_.begin();
}

Phase::~Phase() {
  try {
    end();
  } catch (const std::exception&) {
    // Without memory for its record the phase is left out; what took the memory is reported.
  }
}

void Phase::snapshot() {
  trace_.profile_.sample();
  trace_.maybe_smaps(*this);
}

void Phase::end() {
  if (ended_) return;
  ended_ = true;
  trace_.maybe_smaps(*this);
  trace_.end_phase(*this);
}

}  // namespace toolkit
