// Numbers, weights and adapters for kernels_probe.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/kernels.h"

namespace toolkit {

using Floats = std::vector<float>;

/// Numbers in [-1, 1), always the same.
class Random {
 public:
  uint32_t bits() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return uint32_t(state_ >> 33);
  }
  Floats floats(int64_t count) {
    Floats values(count);
    for (float& value : values) value = float(bits() % 2000) / 1000.0f - 1.0f;
    return values;
  }

 private:
  uint64_t state_ = 1;
};

struct Weight {
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scale, offset;
  QuantizedMatrix matrix;

  Weight(Random& random, int64_t rows, int64_t depth, int bits, bool with_offset)
      : codes(rows * depth * bits / 8), scale(rows * depth / 32), offset(scale.size()) {
    for (uint8_t& byte : codes) byte = uint8_t(random.bits());
    // 2^-7 to 2^-6, and up to twice that with either sign.
    for (uint16_t& half : scale) half = uint16_t(0x2000 + random.bits() % 0x400);
    for (uint16_t& half : offset)
      half = uint16_t(0x2400 + random.bits() % 0x400 + random.bits() % 2 * 0x8000);
    matrix = {codes.data(), scale.data(), with_offset ? offset.data() : nullptr, rows, depth, bits};
  }
};

/// A and b of an adapter, and room for their gradients.
struct Lora {
  int64_t rank;
  Floats a, b, da, db;

  Lora(Random& random, int64_t rows, int64_t depth, int64_t rank)
      : rank(rank),
        a(random.floats(rank * depth)),
        b(random.floats(rows * rank)),
        da(a.size()),
        db(b.size()) {}
  Adapter adapter() const { return {a.data(), b.data(), rank}; }
  AdapterGradient gradient() { return {da.data(), db.data()}; }
};

inline bool same_bits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace toolkit
