#include "trainer/memory_stats.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "trainer/files.h"

namespace toolkit {
namespace {

// Content of a /proc file from its start, in a caller's buffer, terminated; empty on failure.
const char* reread(int fd, char* buffer, size_t size) {
  const ssize_t count = fd < 0 ? -1 : pread(fd, buffer, size - 1, 0);
  buffer[count < 0 ? 0 : count] = 0;
  return buffer;
}

// Number after `name` in "name: 123 kB" text, or `absent`.
int64_t value_of(const char* text, const char* name, int64_t absent = 0) {
  const char* at = strstr(text, name);
  return at == nullptr ? absent : strtoll(at + strlen(name), nullptr, 10);
}

int64_t meminfo(const char* name) {
  char text[2048];
  const int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
  reread(fd, text, sizeof(text));
  if (fd >= 0) close(fd);
  return value_of(text, name);
}

// Least limit of memory among a control group and those around it, in KiB; 0 without one.
int64_t limit_above(const std::string& root, std::string group, const char* name) {
  int64_t least = 0;
  for (;;) {
    const int64_t kib = strtoll(read_line(root + group + name).c_str(), nullptr, 10) / 1024;
    if (kib > 0 && (least == 0 || kib < least)) least = kib;
    if (group.empty()) return least;
    group.resize(group.rfind('/'));
  }
}

// Each line of /proc/self/cgroup is "number:controllers:/group"; version 2 has no controllers.
int64_t group_limit_kib() {
  char text[4096];
  const int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
  reread(fd, text, sizeof(text));
  if (fd >= 0) close(fd);
  for (char* line = strtok(text, "\n"); line != nullptr; line = strtok(nullptr, "\n")) {
    char* controllers = strchr(line, ':');
    char* group = controllers != nullptr ? strchr(controllers + 1, ':') : nullptr;
    if (group == nullptr) continue;
    *group++ = 0;
    if (strcmp(group, "/") == 0) *group = 0;
    const bool first = strstr(controllers, "memory") != nullptr;
    const int64_t limit =
        first ? limit_above("/sys/fs/cgroup/memory", group, "/memory.limit_in_bytes")
              : limit_above("/sys/fs/cgroup", group, "/memory.max");
    if (limit > 0) return limit;
  }
  return 0;
}

}  // namespace

ProcReader::ProcReader()
    : status_(open("/proc/self/status", O_RDONLY | O_CLOEXEC)),
      io_(open("/proc/self/io", O_RDONLY | O_CLOEXEC)),
      rollup_(open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC)),
      clear_(open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC)) {
  can_reset_ = reset_peak();
}

ProcReader::~ProcReader() {
  for (int fd : {status_, io_, rollup_, clear_}) {
    if (fd >= 0) close(fd);
  }
}

MemoryReading ProcReader::memory() const {
  char text[4096];
  reread(status_, text, sizeof(text));
  MemoryReading reading;
  reading.hwm = value_of(text, "VmHWM:");
  reading.rss_anon = value_of(text, "RssAnon:");
  reading.rss_file = value_of(text, "RssFile:");
  reading.rss_shmem = value_of(text, "RssShmem:");
  reading.swap = value_of(text, "VmSwap:");
  return reading;
}

IoReading ProcReader::io() const {
  char text[512];
  reread(io_, text, sizeof(text));
  IoReading reading;
  reading.read_bytes = value_of(text, "\nread_bytes:");
  reading.written_bytes = value_of(text, "\nwrite_bytes:", bytes_written());
  rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    reading.major_faults = usage.ru_majflt;
    reading.minor_faults = usage.ru_minflt;
  }
  return reading;
}

int64_t ProcReader::pss_kib() const {
  char text[2048];
  reread(rollup_, text, sizeof(text));
  return value_of(text, "\nPss:", -1);
}

bool ProcReader::reset_peak() { return clear_ >= 0 && pwrite(clear_, "5", 1, 0) == 1; }

std::vector<MappingSize> read_smaps() {
  std::map<std::string, MappingSize> by_name;
  FILE* file = fopen("/proc/self/smaps", "re");
  if (file == nullptr) return {};
  char line[512];
  MappingSize* current = nullptr;
  while (fgets(line, sizeof(line), file) != nullptr) {
    long long value = 0;
    if (sscanf(line, "Rss: %lld", &value) == 1) {
      if (current != nullptr) current->rss += value;
    } else if (sscanf(line, "Pss: %lld", &value) == 1) {
      if (current != nullptr) current->pss += value;
    } else if (sscanf(line, "Anonymous: %lld", &value) == 1) {
      if (current != nullptr) current->anonymous += value;
    } else {
      int name_at = 0;  // a header: "begin-end perms offset device inode   name"
      unsigned long long begin, end;
      if (sscanf(line, "%llx-%llx %*s %*s %*s %*s %n", &begin, &end, &name_at) == 2 &&
          name_at > 0) {
        std::string name(line + name_at);
        while (!name.empty() && name.back() == '\n') name.pop_back();
        current = &by_name[name];
      }
    }
  }
  fclose(file);
  std::vector<MappingSize> result;
  for (auto& [name, size] : by_name) {
    size.name = name;
    if (size.rss > 0) result.push_back(size);
  }
  std::sort(result.begin(), result.end(),
            [](const MappingSize& a, const MappingSize& b) { return a.rss > b.rss; });
  return result;
}

int64_t memory_total_kib() { return meminfo("MemTotal:"); }

int64_t memory_available_kib() {
  static const int64_t limit = group_limit_kib();
  const int64_t available = meminfo("MemAvailable:");
  return limit > 0 ? std::min(available, limit) : available;
}

int64_t storage_bytes_read() {
  char text[512];
  const int fd = open("/proc/self/io", O_RDONLY | O_CLOEXEC);
  reread(fd, text, sizeof(text));
  if (fd >= 0) close(fd);
  return value_of(text, "\nread_bytes:", -1);
}

std::string read_line(const std::string& path) {
  char text[256];
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  reread(fd, text, sizeof(text));
  if (fd >= 0) close(fd);
  return std::string(text, strcspn(text, "\n"));
}

}  // namespace toolkit
