#include <cstdlib>
#include <cstring>
#include <string>

#if defined(TOOLKIT_PLAIN_KERNELS)
#elif defined(__x86_64__)
#define TOOLKIT_KERNELS_OF_X86
#include <cpuid.h>
#elif defined(__aarch64__)
#define TOOLKIT_KERNELS_OF_ARM
#endif

#include "kernels/dry_run.h"
#include "kernels/error.h"
#include "kernels/primitives.h"

namespace toolkit {

namespace plain {
extern const Primitives primitives;
}
#if defined(TOOLKIT_KERNELS_OF_X86)
namespace avx2 {
extern const Primitives primitives;
}
namespace avx512 {
extern const Primitives primitives;
}
#elif defined(TOOLKIT_KERNELS_OF_ARM)
namespace neon {
extern const Primitives primitives;
}
#endif

namespace {

struct Candidate {
  Kernels kernels;
  bool available;
};

#if defined(TOOLKIT_KERNELS_OF_X86)
/// Conversion of fp16, which __builtin_cpu_supports knows by name in some compilers only.
bool has_half_conversion() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

Kernels of(const Primitives& primitives) { return Kernels(primitives, primitives.float32); }

/// Best first.
const Candidate* candidates(int* count) {
#if defined(TOOLKIT_KERNELS_OF_X86)
  __builtin_cpu_init();
  static const Candidate list[] = {
      {of(avx512::primitives),
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")},
      {of(avx2::primitives),
       __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_half_conversion()},
      {of(plain::primitives), true}};
#elif defined(TOOLKIT_KERNELS_OF_ARM)
  static const Candidate list[] = {{of(neon::primitives), true}, {of(plain::primitives), true}};
#else
  static const Candidate list[] = {{of(plain::primitives), true}};
#endif
  *count = static_cast<int>(sizeof(list) / sizeof(list[0]));
  return list;
}

[[noreturn]] void refuse(const std::string& wanted) {
  int count = 0;
  const Candidate* list = candidates(&count);
  std::string names;
  for (int i = 0; i < count; ++i) {
    if (list[i].available) names += std::string(names.empty() ? "" : ", ") + list[i].kernels.isa;
  }
  throw UsageError("TOOLKIT_ISA=" + wanted + " is not available on this processor. Choose one of " +
                   names);
}

const Kernels* choose() {
  int count = 0;
  const Candidate* list = candidates(&count);
  const char* wanted = std::getenv("TOOLKIT_ISA");
  if (wanted != nullptr && wanted[0] != '\0') {
    const Kernels* found = kernels_for(wanted);
    if (found == nullptr) refuse(wanted);
    return found;
  }
  for (int i = 0; i < count; ++i) {
    if (list[i].available) return &list[i].kernels;
  }
  return kernels_for("plain");
}

const char* refused = nullptr;

const Kernels*& chosen() {
  static const Kernels* kernels = choose();
  return kernels;
}

}  // namespace

Kernels::Kernels(const Primitives& primitives, const Arithmetic& arithmetic)
    : isa(primitives.tiles.isa),
      tiles(primitives.tiles),
      rows(primitives),
      arithmetic(arithmetic),
      float32(primitives.float32) {}

const Kernels* kernels_for(const char* isa) {
  int count = 0;
  const Candidate* list = candidates(&count);
  for (int i = 0; i < count; ++i) {
    if (list[i].available && std::strcmp(list[i].kernels.isa, isa) == 0) return &list[i].kernels;
  }
  return nullptr;
}

bool select_isa(const char* isa) {
  const Kernels* found = kernels_for(isa);
  if (found != nullptr) chosen() = found;
  return found != nullptr;
}

const Kernels& kernels() {
  if (const DryRun* dry = DryRun::current()) return dry->kernels();
  if (refused != nullptr) throw Error(refused);
  return *chosen();
}

void refuse_kernels(const char* why) { refused = why; }

}  // namespace toolkit
