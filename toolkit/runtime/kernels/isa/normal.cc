// Normal numbers by their place: element i of a stream is a function of the stream and i alone, the
// same bits on every processor and in Python (toolkit/replaying/normals.py).
//
// Philox4x32-10 (Salmon et al., 2011) makes four words w of the counter (i / 4, the stream's three
// words) and the key. Each pair gives two normals by Box and Muller:
//   u = (2 (w0 >> 9) + 1) / 2^24,  r = sqrt(-2 ln u)
//   x = (2 ((w1 >> 7) mod 2^23) + 1) / 2^24 - 1/2,  angle = (x + (w1 >> 30)) pi / 2
//   z0 = r cos(angle), z1 = r sin(angle)
// so |z| < 5.77. All of it is single float32 operations in the order written here, the logarithm,
// sine and cosine minimax polynomials as Cephes has them (2 ulp): this file is compiled without
// contraction to fused multiply-add.
#include <cmath>

#include "kernels/isa/rows.h"

namespace toolkit {
namespace TOOLKIT_ISA {
namespace {

constexpr int kBlocks = 16;          // counters that are done together
constexpr int kGroup = 4 * kBlocks;  // normals they make

struct Words {
  uint32_t w[4][kBlocks];
};

TOOLKIT_INLINE void philox(const NormalStream& stream, uint32_t block, Words* out) {
  constexpr uint32_t kMultiply0 = 0xD2511F53, kMultiply1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  uint32_t key0 = stream.key[0], key1 = stream.key[1];
  uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
  for (int j = 0; j < kBlocks; ++j) {
    c0[j] = block + uint32_t(j);
    c1[j] = stream.counter[0];
    c2[j] = stream.counter[1];
    c3[j] = stream.counter[2];
  }
  for (int round = 0; round < 10; ++round) {
    for (int j = 0; j < kBlocks; ++j) {
      const uint64_t p0 = uint64_t(kMultiply0) * c0[j], p1 = uint64_t(kMultiply1) * c2[j];
      c0[j] = uint32_t(p1 >> 32) ^ c1[j] ^ key0;
      c1[j] = uint32_t(p1);
      c2[j] = uint32_t(p0 >> 32) ^ c3[j] ^ key1;
      c3[j] = uint32_t(p0);
    }
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  for (int j = 0; j < kBlocks; ++j) {
    out->w[0][j] = c0[j];
    out->w[1][j] = c1[j];
    out->w[2][j] = c2[j];
    out->w[3][j] = c3[j];
  }
}

TOOLKIT_INLINE float float_of(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

TOOLKIT_INLINE uint32_t bits_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

/// sqrt(-2 ln u) of u in (0, 1), not a subnormal.
TOOLKIT_INLINE float radius(float u) {
  const uint32_t bits = bits_of(u);
  float m = float_of((bits & 0x7fffff) | 0x3f000000);  // [1/2, 1)
  const bool small = m < 0.707106781186547524f;
  const float e = float(int32_t(bits >> 23) - 126 - int32_t(small));
  m = small ? m + m : m;
  const float x = m - 1.0f, square = x * x;
  float p = 7.0376836292e-2f * x - 1.1514610310e-1f;
  p = p * x + 1.1676998740e-1f;
  p = p * x - 1.2420140846e-1f;
  p = p * x + 1.4249322787e-1f;
  p = p * x - 1.6668057665e-1f;
  p = p * x + 2.0000714765e-1f;
  p = p * x - 2.4999993993e-1f;
  p = p * x + 3.3333331174e-1f;
  p = p * x * square;
  p = p - e * 2.12194440e-4f;
  p = p - 0.5f * square;
  return std::sqrt(-2.0f * (x + p + e * 0.693359375f));
}

/// The two normals of a pair of words.
TOOLKIT_INLINE void pair_of(uint32_t w0, uint32_t w1, float* first, float* second) {
  constexpr float kUnit = 0x1p-24f;
  const float r = radius(float(int32_t(2 * (w0 >> 9) + 1)) * kUnit);
  const float x = float(int32_t(2 * ((w1 >> 7) & 0x7fffff) + 1)) * kUnit - 0.5f;
  const float t = x * 1.57079632679489662f, square = t * t;
  float s = -1.9515295891e-4f * square + 8.3321608736e-3f;
  s = s * square - 1.6666654611e-1f;
  s = s * square * t + t;
  float c = 2.443315711809948e-5f * square - 1.388731625493765e-3f;
  c = c * square + 4.166664568298827e-2f;
  c = c * square * square - 0.5f * square + 1.0f;
  const uint32_t quadrant = w1 >> 30;
  const bool odd = (quadrant & 1) != 0;
  const uint32_t of_first = (quadrant + 1) << 30 & 0x80000000u,
                 of_second = quadrant << 30 & 0x80000000u;
  *first = r * float_of(bits_of(odd ? s : c) ^ of_first);
  *second = r * float_of(bits_of(odd ? c : s) ^ of_second);
}

/// Normals 4 block and the following of a stream.
void normals(const NormalStream& stream, uint32_t block, float* z) {
  Words words;
  philox(stream, block, &words);
  float lanes[4][kBlocks];
  for (int half = 0; half < 4; half += 2) {
    for (int j = 0; j < kBlocks; ++j) {
      pair_of(words.w[half][j], words.w[half + 1][j], &lanes[half][j], &lanes[half + 1][j]);
    }
  }
  for (int j = 0; j < kBlocks; ++j) {
    for (int i = 0; i < 4; ++i) z[4 * j + i] = lanes[i][j];
  }
}

/// Calls body(i, count, z) for all elements in groups, z theirs from element i on.
template <typename Body>
TOOLKIT_INLINE void for_groups(const NormalStream& stream, int64_t first, int64_t count,
                               Body body) {
  float z[kGroup];
  for (int64_t i = 0; i < count; i += kGroup) {
    normals(stream, uint32_t((first + i) / 4), z);
    body(i, count - i < kGroup ? int(count - i) : kGroup, z);
  }
}

}  // namespace

void perturb(const float* values, const NormalStream& stream, int64_t first, int64_t count,
             float scale, float most, float* plus, float* minus) {
  for_groups(stream, first, count, [&](int64_t i, int n, const float* z) {
    for (int j = 0; j < n; ++j) {
      const float value = values[i + j];
      const float shift = std::fabs(value) <= most ? scale * z[j] : 0.0f;
      plus[i + j] = value + shift;
      minus[i + j] = value - shift;
    }
  });
}

void add_normals(float* values, const NormalStream& stream, int64_t first, int64_t count,
                 float keep, float factor, float most) {
  for_groups(stream, first, count, [&](int64_t i, int n, const float* z) {
    for (int j = 0; j < n; ++j) {
      const float value = values[i + j], moved = value * keep + factor * z[j];
      values[i + j] = std::fabs(value) <= most ? moved : value;
    }
  });
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
