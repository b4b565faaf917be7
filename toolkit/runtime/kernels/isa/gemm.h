// float32's packed operands and micro-kernel.
//
// Left:  blocks of kBlock rows; in a block, element (row i, depth k) at k * kBlock + i. Missing
// rows are 0. Right: groups of kGroup columns; in a group, element (depth k, column j) at k * width
// + j. A thread packs a group of columns for a stretch of the depth that fits its L2 cache, then
// runs the micro-kernel (kBlock x kGroup accumulators in registers) down all row blocks.
#pragma once

#include "kernels/isa/simd.h"

namespace toolkit {
namespace TOOLKIT_ISA {

constexpr Tiles kTiles = tiles::TOOLKIT_ISA;
constexpr int kBlock = kTiles.block, kGroup = kTiles.group;

// What the table of primitives says of them holds.
void pack_left(const View& view, int64_t rows, int64_t depth, float scale, int64_t first,
               int64_t last, void* out);
void pack_ones(int64_t rows, void* out);
void pack_right(const Right& right, const RightPart& part, float scale, void* out);
void multiply_groups(const Product& product, int64_t group, int64_t groups, int64_t block0,
                     int64_t block1, void* buffer);

/// Columns [column, column + columns) and depth [depth0, depth0 + depth) of scale * right, `width`
/// wide; of weights without the scale.
void pack_group(const Right& right, int64_t column, int64_t columns, int64_t depth0, int64_t depth,
                int64_t width, float scale, float* out);

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
