#include "engine/trace/profile.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

#include "engine/files/json.h"
#include "engine/runtime.h"
#include "kernels/observer.h"
#include "kernels/workspace.h"

namespace toolkit {

// Computation between two readings after operators: small ones change little.
constexpr int64_t kSampleEvery = 200'000;  // ns

Residency resident_now() {
  static const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  char text[128];
  const ssize_t count = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
  if (count < 0) return {};
  text[count] = 0;
  // "size resident shared ..." in pages; shared counts pages of files.
  char* at = text;
  strtoll(at, &at, 10);
  const int64_t kib = int64_t(page_size() / 1024);
  const int64_t resident = strtoll(at, &at, 10), shared = strtoll(at, &at, 10);
  return {resident * kib, shared * kib};
}

void Profile::enable() {
  enabled_ = true;
  set_operator_observer([](const char* name, int64_t nanoseconds) {
    if (Runtime* runtime = Runtime::current()) runtime->profile().add(name, nanoseconds);
  });
}

void Profile::begin() {
  if (!enabled_) return;
  baseline_ = resident_now();
  keep(baseline_);
  of_file_before_ = of_file_;
  times_.clear();
}

void Profile::sample() {
  if (!enabled_) return;
  unsampled_ = 0;
  const Residency present = resident_now();
  if (present.total_kib > peak_.total_kib) keep(present);
}

void Profile::keep(const Residency& present) {
  peak_ = present;
  for (int i = 0; i < kCategories; ++i) held_[i] = ledger_.get(Category(i));
  of_file_ = ledger_.of_file();
  held_[int(Category::scratch)] += int64_t(workspace_bytes());
}

void Profile::add(const char* name, int64_t nanoseconds) {
  unsampled_ += nanoseconds;
  if (unsampled_ >= kSampleEvery) sample();
  for (OperatorTime& time : times_) {
    if (time.name != name) continue;
    ++time.calls;
    time.nanoseconds += nanoseconds;
    return;
  }
  times_.push_back({name, 1, nanoseconds});
}

std::string Profile::operators_json() const {
  Json all;
  for (const OperatorTime& time : times_) {
    all.raw(time.name, Json().field("calls", time.calls).field("ns", time.nanoseconds).str());
  }
  return all.str();
}

}  // namespace toolkit
