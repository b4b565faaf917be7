// The sizes of fixed16's packed operands, see isa/fixed16.h.
#include "kernels/primitives.h"

namespace toolkit {
namespace fixed16 {

int64_t left_bytes(const Tiles& tiles, int64_t rows, int64_t depth) {
  return round_up(rows, tiles.block) * divide_up(depth, kQuantGroup) * kGroupBytes;
}

int64_t right_bytes(const Tiles&, int64_t, int64_t) { return 0; }  // none is packed ahead

int64_t buffer_bytes(const Tiles& tiles) {
  return groups_together(tiles) * buffer_bytes_of_group(tiles);
}

}  // namespace fixed16
}  // namespace toolkit
