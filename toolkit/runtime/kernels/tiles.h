// Sizes that kernels work in, by instruction set. They are data of every build, so that a plan for
// another processor can ask what its kernels would take.
#pragma once

#include <cstdint>

namespace toolkit {

struct Tiles {
  const char* isa;
  // The micro-kernel's: as many accumulators as the registers hold beside one row of the right
  // operand and a broadcast.
  int64_t block;  // rows of a block of a packed left operand
  int64_t group;  // columns of a group of a packed right operand
  // Caches'.
  int64_t depth = 1024;        // of a right operand, packed at a time: 64 KiB, 128 with 512 bits
  int64_t stretch = 1 << 20;   // bytes of a packed stretch of x: half of a large core's L2
  int64_t strip = 512;         // keys or queries: a strip of scores stays in L1 and L2
  int64_t shared = 512 << 10;  // bytes of packed heads, where one takes less
  // Parts of a sequence: enough tokens to repay the unpacking of a weight, and few enough that
  // scratch stops growing with the sequence.
  int64_t tokens = 256;
  int64_t linear_tokens = 512;  // where nothing but the packed stretch grows with it
  // Columns of a product that exist at a time.
  int64_t features = 256;  // of the MLP: long enough to be the depth of what leaves the tile
  int64_t classes = 512;   // of the loss head
  int64_t few_rows = 4;    // of fixed16 that are not worth packing
  // Products with so many rows a thread are split by them: each thread has all columns of its rows,
  // and reads none that another has packed. That may take as long as unpacking so many columns of
  // weights a row once more.
  int64_t own_rows = 96;
  int64_t own_columns = 4;
};

constexpr int64_t kMostBlock = 16;  // rows of the largest block

namespace tiles {
constexpr Tiles plain{"plain", 4, 16};
constexpr Tiles avx2{"avx2", 6, 16};
constexpr Tiles avx512{"avx512", 12, 32};
constexpr Tiles neon{"neon", 6, 16};

// The same with units that multiply integers faster, which fixed16 uses.
constexpr Tiles with_integers(Tiles tiles, const char* isa, int64_t few_rows) {
  tiles.isa = isa;
  tiles.few_rows = few_rows;
  return tiles;
}
constexpr Tiles avxvnni = with_integers(avx2, "avxvnni", 4);
constexpr Tiles avx512vnni = with_integers(avx512, "avx512vnni", 8);
constexpr Tiles neon_dotprod = with_integers(neon, "neon_dotprod", 8);
constexpr Tiles neon_i8mm = with_integers(neon, "neon_i8mm", 8);
}  // namespace tiles

/// Those of every instruction set, of any processor, best first.
constexpr const Tiles* kAllTiles[] = {&tiles::avx512vnni, &tiles::avx512,    &tiles::avxvnni,
                                      &tiles::avx2,       &tiles::neon_i8mm, &tiles::neon_dotprod,
                                      &tiles::neon,       &tiles::plain};

/// The tiles of a named instruction set; null for a name that is none.
const Tiles* tiles_of(const char* isa);

}  // namespace toolkit
