#include "engine/memory/memory_stats.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "engine/runtime.h"

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

// Of a small file of "name 123" or "name: 123 kB" lines.
int64_t value_in(const std::string& path, const char* name) {
  char text[8192];
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  reread(fd, text, sizeof(text));
  if (fd >= 0) close(fd);
  return value_of(text, name);
}

int64_t number_in(const std::string& path) { return strtoll(read_line(path).c_str(), nullptr, 10); }

// Names of a control group's files, by version.
struct GroupFiles {
  const char *root, *limit, *usage, *inactive, *active;
};
constexpr GroupFiles kGroupFiles[] = {
    {"/memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes", "\ntotal_inactive_file ",
     "\ntotal_active_file "},
    {"", "/memory.max", "/memory.current", "\ninactive_file ", "\nactive_file "},
};

struct Mapping {
  uintptr_t begin = 0, end = 0;
  bool writable = false;
  char name[512] = "";
  int64_t rss = 0, pss = 0, anonymous = 0;  // KiB
};

// Calls visit(mapping) for those in /proc/self/smaps. Takes no memory but the stream's, without
// which it calls nothing.
template <typename Visit>
void each_mapping(Visit visit) {
  FILE* file = fopen("/proc/self/smaps", "re");
  if (file == nullptr) return;
  char line[sizeof(Mapping::name)];
  Mapping mapping;
  while (fgets(line, sizeof(line), file) != nullptr) {
    // A header is "begin-end permissions offset device inode   name", a field "Name: 12 kB".
    unsigned long long begin, end;
    char permissions[5];
    int name_at = 0;
    if (sscanf(line, "%llx-%llx %4s %*s %*s %*s %n", &begin, &end, permissions, &name_at) == 3) {
      if (mapping.end != 0) visit(mapping);
      mapping = {uintptr_t(begin), uintptr_t(end), permissions[1] == 'w'};
      if (name_at > 0) memcpy(mapping.name, line + name_at, strcspn(line + name_at, "\n"));
      continue;
    }
    long long value = 0;
    if (sscanf(line, "Rss: %lld", &value) == 1) mapping.rss = value;
    if (sscanf(line, "Pss: %lld", &value) == 1) mapping.pss = value;
    if (sscanf(line, "Anonymous: %lld", &value) == 1) mapping.anonymous = value;
  }
  if (mapping.end != 0) visit(mapping);
  fclose(file);
}

// What a control group and those around it leave of their limits; 0 without a limit. The page cache
// is part of what they count, but it makes room.
int64_t rest_of_groups(const std::string& mounted, const GroupFiles& files, std::string group) {
  int64_t least = 0;
  for (;;) {
    const std::string folder = mounted + files.root + group;
    const int64_t limit = number_in(folder + files.limit);
    if (limit > 0) {
      const int64_t cache = value_in(folder + "/memory.stat", files.inactive) +
                            value_in(folder + "/memory.stat", files.active);
      const int64_t used = std::max<int64_t>(0, number_in(folder + files.usage) - cache);
      const int64_t rest = std::max<int64_t>(1024, limit - used);
      if (least == 0 || rest < least) least = rest;
    }
    if (group.empty()) return least;
    group.resize(group.rfind('/'));
  }
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
  const Runtime* runtime = Runtime::current();
  reading.written_bytes =
      value_of(text, "\nwrite_bytes:", runtime != nullptr ? runtime->bytes_written() : 0);
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
  each_mapping([&](const Mapping& mapping) {
    MappingSize& size = by_name[mapping.name];
    size.rss += mapping.rss;
    size.pss += mapping.pss;
    size.anonymous += mapping.anonymous;
  });
  std::vector<MappingSize> result;
  for (auto& [name, size] : by_name) {
    size.name = name;
    if (size.rss > 0) result.push_back(size);
  }
  std::sort(result.begin(), result.end(),
            [](const MappingSize& a, const MappingSize& b) { return a.rss > b.rss; });
  return result;
}

void give_back_code() {
  each_mapping([](const Mapping& mapping) {
    // What was written to, by the loader or a debugger, is in no file.
    if (mapping.name[0] != '/' || mapping.writable || mapping.anonymous > 0) return;
    madvise(reinterpret_cast<void*>(mapping.begin), mapping.end - mapping.begin, MADV_DONTNEED);
  });
}

int64_t memory_total_kib() { return value_in("/proc/meminfo", "MemTotal:"); }

int64_t memory_available_kib() {
  const int64_t available = value_in("/proc/meminfo", "MemAvailable:");
  const int64_t rest = group_rest_kib("/proc/self/cgroup", "/sys/fs/cgroup");
  return rest > 0 ? std::min(available, rest) : available;
}

// Each line of the list is "number:controllers:/group"; version 2 has no controllers.
int64_t group_rest_kib(const std::string& list, const std::string& mounted) {
  char text[4096];
  const int fd = open(list.c_str(), O_RDONLY | O_CLOEXEC);
  reread(fd, text, sizeof(text));
  if (fd >= 0) close(fd);
  char* state = nullptr;
  for (char* line = strtok_r(text, "\n", &state); line != nullptr;
       line = strtok_r(nullptr, "\n", &state)) {
    char* controllers = strchr(line, ':');
    char* group = controllers != nullptr ? strchr(controllers + 1, ':') : nullptr;
    if (group == nullptr) continue;
    *group++ = 0;
    if (strcmp(group, "/") == 0) *group = 0;
    const bool first = strstr(controllers, "memory") != nullptr;
    const int64_t rest = rest_of_groups(mounted, kGroupFiles[first ? 0 : 1], group);
    if (rest > 0) return rest / 1024;
  }
  return 0;
}

int64_t storage_bytes_read() {
  char text[512];
  const int fd = open("/proc/self/io", O_RDONLY | O_CLOEXEC);
  reread(fd, text, sizeof(text));
  if (fd >= 0) close(fd);
  return value_of(text, "\nread_bytes:", -1);
}

int64_t major_faults() {
  rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_majflt : 0;
}

std::string read_line(const std::string& path) {
  char text[256];
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  reread(fd, text, sizeof(text));
  if (fd >= 0) close(fd);
  return std::string(text, strcspn(text, "\n"));
}

}  // namespace toolkit
