// The sizes of float32's packed operands, see isa/gemm.h.
#include "kernels/primitives.h"

namespace toolkit {
namespace float32 {

int64_t left_bytes(const Tiles& tiles, int64_t rows, int64_t depth) {
  return round_up(rows, tiles.block) * depth * sizeof(float);
}

int64_t right_bytes(const Tiles&, int64_t depth, int64_t columns) {
  return round_up(columns, kPanel) * depth * sizeof(float);
}

int64_t buffer_bytes(const Tiles& tiles) { return buffer_floats(tiles) * sizeof(float); }

}  // namespace float32
}  // namespace toolkit
