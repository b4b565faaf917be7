// Rows of floats as groups of whole numbers (see fixed16.h).
#include "kernels/isa/fixed16_groups.h"
#if defined(TOOLKIT_DOTPROD)
#include "kernels/isa/fixed16_bytes.h"
#else
#include "kernels/isa/fixed16_pairs.h"
#endif

namespace toolkit {
namespace TOOLKIT_ISA {

void pack_fixed16(const View& view, int64_t rows, int64_t depth, float scale, int64_t first,
                  int64_t last, void* out) {
  const int64_t groups = divide_up(depth, kQuantGroup);
  for (int64_t block = first; block < last; ++block) {
    const int64_t row = block * kBlock, count = min(kBlock, rows - row);
    const LeftGroups to = groups_of(out, depth, block, 0);
    for (int64_t g = 0; g < groups; ++g) {  // blocks are written from end to end
      const int64_t at = g * kQuantGroup, features = min(kQuantGroup, depth - at);
      for (int64_t i = 0; i < kBlock; ++i) {
        const float* in = view.data + (row + (i < count ? i : 0)) * view.row_stride;
        Group group;
        quantize(in + at, i < count ? features : 0, scale, kLimit, &group);
        store_row(group.q, static_cast<int>(i),
                  const_cast<int16_t*>(to.q) + g * kBlock * kQuantGroup);
        const_cast<float*>(to.scale)[g * kBlock + i] = group.scale;
        const_cast<float*>(to.total)[g * kBlock + i] = group.scale * static_cast<float>(group.sum);
      }
    }
  }
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
