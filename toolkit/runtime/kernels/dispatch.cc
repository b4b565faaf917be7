#include <cstdlib>
#include <cstring>
#include <string>

#if defined(TOOLKIT_PLAIN_KERNELS)
#elif defined(__x86_64__)
#define TOOLKIT_KERNELS_OF_X86
#include <cpuid.h>
#elif defined(__aarch64__)
#define TOOLKIT_KERNELS_OF_ARM
#ifdef __linux__
#include <sys/auxv.h>
#endif
#endif

#include "kernels/dry_run.h"
#include "kernels/error.h"
#include "kernels/primitives.h"

namespace toolkit {

#define TOOLKIT_DECLARE_PRIMITIVES(isa) \
  namespace isa {                       \
  extern const Primitives primitives;   \
  }
#define TOOLKIT_DECLARE_FIXED16(isa)         \
  namespace isa {                            \
  extern const Arithmetic fixed16_of;        \
  extern const RowProducts few_rows_fixed16; \
  }
#define TOOLKIT_DECLARE_FEW_ROWS(isa)        \
  namespace isa {                            \
  extern const RowProducts few_rows_float32; \
  }
TOOLKIT_DECLARE_PRIMITIVES(plain)
TOOLKIT_DECLARE_FIXED16(plain)
#if defined(TOOLKIT_KERNELS_OF_X86)
TOOLKIT_DECLARE_PRIMITIVES(avx2)
TOOLKIT_DECLARE_PRIMITIVES(avx512)
TOOLKIT_DECLARE_FIXED16(avx2)
TOOLKIT_DECLARE_FIXED16(avxvnni)
TOOLKIT_DECLARE_FIXED16(avx512)
TOOLKIT_DECLARE_FIXED16(avx512vnni)
TOOLKIT_DECLARE_FEW_ROWS(avx512vnni)
#elif defined(TOOLKIT_KERNELS_OF_ARM)
TOOLKIT_DECLARE_PRIMITIVES(neon)
TOOLKIT_DECLARE_FIXED16(neon)
TOOLKIT_DECLARE_FIXED16(neon_dotprod)
TOOLKIT_DECLARE_FIXED16(neon_i8mm)
TOOLKIT_DECLARE_FEW_ROWS(neon_dotprod)
TOOLKIT_DECLARE_FEW_ROWS(neon_i8mm)
#endif

namespace {

/// The kernels of an instruction set, by arithmetic.
struct Candidate {
  const char* isa;
  Kernels float32, fixed16;  // each names the instruction set that it has code for
  bool available;

  Candidate(const char* isa, const Primitives& primitives, const Arithmetic& fixed16,
            const RowProducts& few_rows_fixed16, bool available,
            const RowProducts* few_rows_float32 = nullptr)
      : isa(isa),
        float32(few_rows_float32 != nullptr ? isa : primitives.tiles.isa, primitives,
                primitives.float32,
                few_rows_float32 != nullptr ? *few_rows_float32 : primitives.few_rows),
        fixed16(isa, primitives, fixed16, few_rows_fixed16),
        available(available) {}
  const Kernels& of(const char* arithmetic) const {
    return std::strcmp(arithmetic, fixed16.arithmetic.name) == 0 ? fixed16 : float32;
  }
};

#if defined(TOOLKIT_KERNELS_OF_X86)
struct Features {
  bool avx2, avxvnni, avx512, avx512vnni;
};

/// Going by the processor's own bits where __builtin_cpu_supports knows a name in some compilers
/// only.
Features features() {
  __builtin_cpu_init();
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool halves = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
  Features result{};
  result.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && halves;
  result.avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  constexpr unsigned kAvx512Vnni = 1u << 11, kAvxVnni = 1u << 4;
  result.avx512vnni =
      result.avx512 && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (c & kAvx512Vnni) != 0;
  result.avxvnni =
      result.avx2 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kAvxVnni) != 0;
  return result;
}
#endif

/// Best first.
const Candidate* candidates(int* count) {
#if defined(TOOLKIT_KERNELS_OF_X86)
  static const Features has = features();
  static const Candidate list[] = {
      {"avx512vnni", avx512::primitives, avx512vnni::fixed16_of, avx512vnni::few_rows_fixed16,
       has.avx512vnni, &avx512vnni::few_rows_float32},
      {"avx512", avx512::primitives, avx512::fixed16_of, avx512::few_rows_fixed16, has.avx512},
      {"avxvnni", avx2::primitives, avxvnni::fixed16_of, avxvnni::few_rows_fixed16, has.avxvnni},
      {"avx2", avx2::primitives, avx2::fixed16_of, avx2::few_rows_fixed16, has.avx2},
      {"plain", plain::primitives, plain::fixed16_of, plain::few_rows_fixed16, true}};
#elif defined(TOOLKIT_KERNELS_OF_ARM)
#ifdef __linux__
  constexpr unsigned long kDotProduct = 1ul << 20, kI8mm = 1ul << 13;
  static const bool dotprod = (getauxval(AT_HWCAP) & kDotProduct) != 0;
  static const bool i8mm = dotprod && (getauxval(AT_HWCAP2) & kI8mm) != 0;
#else
  static const bool dotprod = false, i8mm = false;
#endif
  static const Candidate list[] = {
      {"neon_i8mm", neon::primitives, neon_i8mm::fixed16_of, neon_i8mm::few_rows_fixed16, i8mm,
       &neon_i8mm::few_rows_float32},
      {"neon_dotprod", neon::primitives, neon_dotprod::fixed16_of, neon_dotprod::few_rows_fixed16,
       dotprod, &neon_dotprod::few_rows_float32},
      {"neon", neon::primitives, neon::fixed16_of, neon::few_rows_fixed16, true},
      {"plain", plain::primitives, plain::fixed16_of, plain::few_rows_fixed16, true}};
#else
  static const Candidate list[] = {
      {"plain", plain::primitives, plain::fixed16_of, plain::few_rows_fixed16, true}};
#endif
  *count = static_cast<int>(sizeof(list) / sizeof(list[0]));
  return list;
}

const Candidate* find(const char* isa) {
  int count = 0;
  const Candidate* list = candidates(&count);
  for (int i = 0; i < count; ++i) {
    if (list[i].available && std::strcmp(list[i].isa, isa) == 0) return &list[i];
  }
  return nullptr;
}

[[noreturn]] void refuse(const std::string& wanted) {
  int count = 0;
  const Candidate* list = candidates(&count);
  std::string names;
  for (int i = 0; i < count; ++i) {
    if (list[i].available) names += std::string(names.empty() ? "" : ", ") + list[i].isa;
  }
  throw UsageError("TOOLKIT_ISA=" + wanted + " is not available on this processor. Choose one of " +
                   names);
}

const Candidate* choose() {
  int count = 0;
  const Candidate* list = candidates(&count);
  const char* wanted = std::getenv("TOOLKIT_ISA");
  if (wanted != nullptr && wanted[0] != '\0') {
    const Candidate* found = find(wanted);
    if (found == nullptr) refuse(wanted);
    return found;
  }
  for (int i = 0; i < count; ++i) {
    if (list[i].available) return &list[i];
  }
  return find("plain");
}

const char* refused = nullptr;
const char* arithmetic_chosen = kArithmetics[0];

const Candidate*& chosen() {
  static const Candidate* candidate = choose();
  return candidate;
}

/// The name as kArithmetics has it; null for one that is none.
const char* known_arithmetic(const char* name) {
  for (const char* known : kArithmetics) {
    if (std::strcmp(known, name) == 0) return known;
  }
  return nullptr;
}

}  // namespace

Kernels::Kernels(const char* isa, const Primitives& primitives, const Arithmetic& arithmetic,
                 const RowProducts& few_rows)
    : isa(isa),
      tiles(primitives.tiles),
      rows(primitives),
      arithmetic(arithmetic),
      float32(primitives.float32),
      few_rows(few_rows) {}

const Kernels* kernels_for(const char* isa, const char* arithmetic) {
  const Candidate* found = find(isa);
  const char* known = known_arithmetic(arithmetic);
  return found != nullptr && known != nullptr ? &found->of(known) : nullptr;
}

bool select_isa(const char* isa) {
  const Candidate* found = find(isa);
  if (found != nullptr) chosen() = found;
  return found != nullptr;
}

bool select_arithmetic(const char* arithmetic) {
  const char* known = known_arithmetic(arithmetic);
  if (known != nullptr) arithmetic_chosen = known;
  return known != nullptr;
}

const Kernels& kernels() {
  if (const DryRun* dry = DryRun::current()) return dry->kernels();
  if (refused != nullptr) throw Error(refused);
  return chosen()->of(arithmetic_chosen);
}

void refuse_kernels(const char* why) { refused = why; }

}  // namespace toolkit
