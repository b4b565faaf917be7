#include <cstdlib>
#include <cstring>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "kernels/error.h"
#include "kernels/kernels.h"

namespace toolkit {

namespace plain {
extern const KernelTable table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const KernelTable table;
}
namespace avx512 {
extern const KernelTable table;
}
#elif defined(__aarch64__)
namespace neon {
extern const KernelTable table;
}
#endif

namespace {

struct Candidate {
  const KernelTable* table;
  bool available;
};

#if defined(__x86_64__)
/// Conversion of fp16, which __builtin_cpu_supports knows by name in some compilers only.
bool has_half_conversion() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

/// Best first.
const Candidate* candidates(int* count) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  static const Candidate list[] = {
      {&avx512::table, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512vl")},
      {&avx2::table,
       __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_half_conversion()},
      {&plain::table, true}};
#elif defined(__aarch64__)
  static const Candidate list[] = {{&neon::table, true}, {&plain::table, true}};
#else
  static const Candidate list[] = {{&plain::table, true}};
#endif
  *count = static_cast<int>(sizeof(list) / sizeof(list[0]));
  return list;
}

[[noreturn]] void refuse(const std::string& wanted) {
  int count = 0;
  const Candidate* list = candidates(&count);
  std::string names;
  for (int i = 0; i < count; ++i) {
    if (list[i].available) names += std::string(names.empty() ? "" : ", ") + list[i].table->isa;
  }
  throw UsageError("TOOLKIT_ISA=" + wanted + " is not available on this processor. Choose one of " +
                   names);
}

const KernelTable* choose() {
  int count = 0;
  const Candidate* list = candidates(&count);
  const char* wanted = std::getenv("TOOLKIT_ISA");
  if (wanted != nullptr && wanted[0] != '\0') {
    const KernelTable* table = kernels_for(wanted);
    if (table == nullptr) refuse(wanted);
    return table;
  }
  for (int i = 0; i < count; ++i) {
    if (list[i].available) return list[i].table;
  }
  return &plain::table;
}

const char* refused = nullptr;

const KernelTable*& chosen() {
  static const KernelTable* table = choose();
  return table;
}

}  // namespace

const KernelTable* kernels_for(const char* isa) {
  int count = 0;
  const Candidate* list = candidates(&count);
  for (int i = 0; i < count; ++i) {
    if (list[i].available && std::strcmp(list[i].table->isa, isa) == 0) return list[i].table;
  }
  return nullptr;
}

bool select_isa(const char* isa) {
  const KernelTable* table = kernels_for(isa);
  if (table != nullptr) chosen() = table;
  return table != nullptr;
}

const KernelTable& kernels() {
  if (refused != nullptr) throw Error(refused);
  return *chosen();
}

void refuse_kernels(const char* why) { refused = why; }

}  // namespace toolkit
