#include "engine/device_info.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#if defined(__ANDROID__)
#include <sys/system_properties.h>
#endif

#include "engine/files/json.h"
#include "engine/memory/memory.h"
#include "engine/memory/memory_stats.h"
#include "engine/model/bundle.h"
#include "kernels/kernels.h"

namespace toolkit {
namespace {

std::vector<int> allowed_cores() {
  cpu_set_t set;
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(i, &set)) cores.push_back(i);
    }
  }
  if (cores.empty()) cores.push_back(0);
  return cores;
}

#if defined(__ANDROID__)
std::string device_model() {
  char model[PROP_VALUE_MAX] = "";
  __system_property_get("ro.product.model", model);
  return model;
}
#else
// Android's properties need its own C library: a phone's shell runs a build with glibc, which reads
// the name of the board where it may.
std::string device_model() {
  for (const char* path :
       {"/proc/device-tree/model", "/sys/class/dmi/id/product_name", "/sys/devices/soc0/machine"}) {
    const std::string model = read_line(path);
    if (!model.empty()) return model;
  }
  return "";
}
#endif

}  // namespace

const char* abi_name() {
#if defined(__aarch64__)
  return "arm64-v8a";
#elif defined(__x86_64__)
  return "x86_64";
#else
  return "unknown";
#endif
}

int core_count() { return int(allowed_cores().size()); }

int fast_core_count() {
  std::vector<int64_t> capacities;
  for (int core : allowed_cores()) {
    const std::string cpu = "/sys/devices/system/cpu/cpu" + std::to_string(core);
    std::string text = read_line(cpu + "/cpu_capacity");
    if (text.empty()) text = read_line(cpu + "/cpufreq/cpuinfo_max_freq");
    capacities.push_back(atoll(text.c_str()));
  }
  const int64_t best = *std::max_element(capacities.begin(), capacities.end());
  return int(std::count_if(capacities.begin(), capacities.end(),
                           [&](int64_t capacity) { return 2 * capacity >= best; }));
}

std::string device_json(int threads, bool hwm_reset) {
  utsname names = {};
  uname(&names);
  return Json()
      .field("abi", abi_name())
      .field("isa", kernels().isa)
      .field("threads", threads)
      .field("cores", core_count())
      .field("page_size", int64_t(page_size()))
      .field("kernel", std::string(names.sysname) + " " + names.release)
      .field("model", device_model())
      .field("memory_total_kib", memory_total_kib())
      .field("memory_available_kib", memory_available_kib())
      .field("hwm_reset", hwm_reset)
      .str();
}

std::string info_json() {
  return Json()
      .field("version", kVersion)
      .field("format_version", kBundleFormatVersion)
      .field("abi", abi_name())
      .field("isa", kernels().isa)
      .field("threads", fast_core_count())
      .field("cores", core_count())
      .field("page_size", int64_t(page_size()))
      .str();
}

}  // namespace toolkit
