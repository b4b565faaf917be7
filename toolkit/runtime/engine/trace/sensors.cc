#include "engine/trace/sensors.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "engine/files/json.h"
#include "engine/memory/memory_stats.h"

namespace toolkit {
namespace {

constexpr size_t kMaxZones = 16;

std::vector<std::string> entries(const char* directory, const char* prefix) {
  std::vector<std::string> names;
  DIR* handle = opendir(directory);
  if (handle == nullptr) return names;
  while (const dirent* entry = readdir(handle)) {
    if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 && entry->d_name[0] != '.') {
      names.push_back(std::string(directory) + "/" + entry->d_name);
    }
  }
  closedir(handle);
  std::sort(names.begin(), names.end());
  return names;
}

int open_reading(const std::string& path) { return open(path.c_str(), O_RDONLY | O_CLOEXEC); }

// First line through an open descriptor; empty when the driver has no value at present.
std::string reading(int fd) {
  char text[64];
  const ssize_t count = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
  text[count < 0 ? 0 : count] = 0;
  return std::string(text, strcspn(text, "\n"));
}

}  // namespace

Sensors::Sensors() {
  for (const std::string& supply : entries("/sys/class/power_supply", "")) {
    if (read_line(supply + "/type") != "Battery") continue;
    level_ = open_reading(supply + "/capacity");
    temperature_ = open_reading(supply + "/temp");
    status_ = open_reading(supply + "/status");
    break;
  }
  for (const std::string& zone : entries("/sys/class/thermal", "thermal_zone")) {
    if (zones_.size() == kMaxZones) break;
    const int fd = open_reading(zone + "/temp");
    if (fd >= 0) zones_.push_back({read_line(zone + "/type"), fd});
  }
}

Sensors::~Sensors() {
  for (int fd : {level_, temperature_, status_}) {
    if (fd >= 0) close(fd);
  }
  for (const Zone& zone : zones_) close(zone.fd);
}

std::string Sensors::battery() const {
  const std::string level = reading(level_), temperature = reading(temperature_);
  const std::string status = reading(status_);
  if (level.empty() && temperature.empty()) return "";
  Json json;
  if (!level.empty()) json.field("level", int64_t(atoll(level.c_str())));
  if (!temperature.empty()) json.field("temperature", double(atoll(temperature.c_str())) / 10);
  if (!status.empty()) json.field("charging", status == "Charging" || status == "Full");
  return json.str();
}

std::string Sensors::thermal() const {
  std::string list;
  for (const Zone& zone : zones_) {
    const std::string value = reading(zone.fd);
    if (value.empty()) continue;
    Json json;
    json.field("zone", zone.name).field("celsius", double(atoll(value.c_str())) / 1000);
    list += (list.empty() ? "" : ",") + json.str();
  }
  return list.empty() ? "" : "[" + list + "]";
}

}  // namespace toolkit
