#include "kernels/tiles.h"

#include <cstring>

namespace toolkit {
static_assert(tiles::avx512.block <= kMostBlock && tiles::avx2.block <= kMostBlock &&
              tiles::neon.block <= kMostBlock && tiles::plain.block <= kMostBlock);

const Tiles* tiles_of(const char* isa) {
  for (const Tiles* tiles : kAllTiles) {
    if (std::strcmp(tiles->isa, isa) == 0) return tiles;
  }
  return nullptr;
}

}  // namespace toolkit
