#include "kernels/tiles.h"

#include <cstring>

namespace toolkit {
namespace {

constexpr const Tiles* kAll[] = {&tiles::plain, &tiles::avx2, &tiles::avx512, &tiles::neon};
static_assert(tiles::avx512.block <= kMostBlock && tiles::avx2.block <= kMostBlock &&
              tiles::neon.block <= kMostBlock && tiles::plain.block <= kMostBlock);

}  // namespace

const Tiles* tiles_of(const char* isa) {
  for (const Tiles* tiles : kAll) {
    if (std::strcmp(tiles->isa, isa) == 0) return tiles;
  }
  return nullptr;
}

}  // namespace toolkit
