// Rows of floats as groups of whole numbers (see fixed16.h).
#if defined(TOOLKIT_DOTPROD)
#include "kernels/isa/fixed16_bytes.h"
#else
#include "kernels/isa/fixed16_pairs.h"
#endif

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

/// What a group is written as.
struct Group {
  alignas(64) int32_t q[kQuantGroup];
  float scale, total;
};

/// scale * x[0, count), zeros beyond.
void quantize(const float* x, int64_t count, float scale, Group* group) {
  constexpr int32_t kInfinity = 0x7f800000;
  // A scale has to have an inverse; what is less is rounded to what floats have below 2^-125.
  constexpr float kLeast = 0x1p-110f;
  alignas(64) float values[kQuantGroup];
  for (int64_t i = 0; i < count; ++i) values[i] = x[i] * scale;
  for (int64_t i = count; i < kQuantGroup; ++i) values[i] = 0;
  int32_t bits = 0;
  for (const float value : values) {
    int32_t magnitude;
    __builtin_memcpy(&magnitude, &value, sizeof(magnitude));
    magnitude &= 0x7fffffff;
    bits = bits > magnitude ? bits : magnitude;
  }
  group->total = 0;
  if (bits >= kInfinity) {
    for (int32_t& q : group->q) q = 0;
    group->scale = __builtin_nanf("");
    return;
  }
  float largest;
  __builtin_memcpy(&largest, &bits, sizeof(largest));
  largest = largest > kLeast ? largest : kLeast;
  const Floats inverse = splat(kLimit / largest);
  for (int64_t i = 0; i < kQuantGroup; i += kLanes) {
    store(group->q + i, nearest(load(values + i) * inverse));
  }
  int32_t total = 0;
  for (const int32_t q : group->q) total += q;
  group->scale = largest / kLimit;
  group->total = static_cast<float>(total);
}

}  // namespace

void pack_fixed16(const View& view, int64_t rows, int64_t depth, float scale, int64_t first,
                  int64_t last, void* out) {
  const int64_t groups = divide_up(depth, kQuantGroup);
  for (int64_t block = first; block < last; ++block) {
    const int64_t row = block * kBlock, count = min(kBlock, rows - row);
    const LeftGroups to = groups_of(out, depth, block, 0);
    for (int64_t i = 0; i < kBlock; ++i) {
      const float* in = view.data + (row + (i < count ? i : 0)) * view.row_stride;
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t at = g * kQuantGroup;
        Group group;
        quantize(in + at, i < count ? min(kQuantGroup, depth - at) : 0, scale, &group);
        store_row(group.q, static_cast<int>(i),
                  const_cast<int16_t*>(to.q) + g * kBlock * kQuantGroup);
        const_cast<float*>(to.scale)[g * kBlock + i] = group.scale;
        const_cast<float*>(to.total)[g * kBlock + i] = group.total;
      }
    }
  }
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
