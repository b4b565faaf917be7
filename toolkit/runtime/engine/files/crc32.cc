#include "engine/files/crc32.h"

#include <algorithm>
#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace toolkit {
namespace {

constexpr uint32_t kPolynomial = 0xEDB88320;  // bit 31 - i belongs to x^i

using Tables = std::array<std::array<uint32_t, 256>, 8>;

/// tables[k][b]: what byte b makes of a checksum of zero when k more zero bytes follow it.
constexpr Tables make_tables() {
  Tables tables = {};
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t crc = b;
    for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ ((crc & 1) ? kPolynomial : 0);
    tables[0][b] = crc;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (uint32_t b = 0; b < 256; ++b) {
      const uint32_t before = tables[k - 1][b];
      tables[k][b] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

/// Eight bytes at a time; `crc` is inverted already.
uint32_t by_tables(uint32_t crc, const uint8_t* data, size_t bytes) {
  for (; bytes >= 8; data += 8, bytes -= 8) {
    uint32_t low, high;
    std::memcpy(&low, data, 4);
    std::memcpy(&high, data + 4, 4);
    low ^= crc;
    crc = kTables[7][low & 0xFF] ^ kTables[6][low >> 8 & 0xFF] ^ kTables[5][low >> 16 & 0xFF] ^
          kTables[4][low >> 24] ^ kTables[3][high & 0xFF] ^ kTables[2][high >> 8 & 0xFF] ^
          kTables[1][high >> 16 & 0xFF] ^ kTables[0][high >> 24];
  }
  for (; bytes > 0; ++data, --bytes) crc = (crc >> 8) ^ kTables[0][(crc ^ *data) & 0xFF];
  return crc;
}

#if defined(__x86_64__)

/// x^power mod P in the order of bits of the data, moved up by one: the product of two reflected
/// operands comes out one bit too low.
constexpr int64_t power_of_x(int power) {
  uint32_t value = uint32_t(1) << 31;
  for (int i = 0; i < power; ++i) value = (value >> 1) ^ ((value & 1) ? kPolynomial : 0);
  return int64_t(value) << 1;
}

/// Multiplies 128 bits by x^distance: the halves apart, the first is 64 bits further from the end.
template <int distance>
__attribute__((target("pclmul,sse4.1"))) inline __m128i carry_on(__m128i value, __m128i next) {
  const __m128i powers = _mm_set_epi64x(power_of_x(distance - 32), power_of_x(distance + 32));
  return _mm_xor_si128(next, _mm_xor_si128(_mm_clmulepi64_si128(value, powers, 0x00),
                                           _mm_clmulepi64_si128(value, powers, 0x11)));
}

/// Folds the data, 64 bytes at a time, into 16 that have the same checksum.
__attribute__((target("pclmul,sse4.1"))) uint32_t by_products(uint32_t crc, const uint8_t* data,
                                                              size_t bytes) {
  constexpr size_t kStep = 64;
  if (bytes < 2 * kStep) return by_tables(crc, data, bytes);
  const auto load = [](const uint8_t* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  };
  __m128i a = _mm_xor_si128(load(data), _mm_cvtsi32_si128(int(crc)));
  __m128i b = load(data + 16), c = load(data + 32), d = load(data + 48);
  for (data += kStep, bytes -= kStep; bytes >= kStep; data += kStep, bytes -= kStep) {
    a = carry_on<512>(a, load(data));
    b = carry_on<512>(b, load(data + 16));
    c = carry_on<512>(c, load(data + 32));
    d = carry_on<512>(d, load(data + 48));
  }
  d = carry_on<128>(carry_on<128>(carry_on<128>(a, b), c), d);
  uint8_t folded[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(folded), d);
  return by_tables(by_tables(0, folded, sizeof(folded)), data, bytes);
}

#elif defined(__aarch64__)

uint32_t by_instruction(uint32_t crc, const uint8_t* data, size_t bytes) {
  for (; bytes >= 8; data += 8, bytes -= 8) {
    uint64_t word;
    std::memcpy(&word, data, 8);
    asm(".arch_extension crc\n\tcrc32x %w0, %w0, %x1" : "+r"(crc) : "r"(word));
  }
  return by_tables(crc, data, bytes);
}

#endif

using Function = uint32_t (*)(uint32_t, const uint8_t*, size_t);

Function fastest() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1")) return by_products;
#elif defined(__aarch64__)
  constexpr unsigned long kHasCrc32 = 1 << 7;  // HWCAP_CRC32, which some headers lack
  if ((getauxval(AT_HWCAP) & kHasCrc32) != 0) return by_instruction;
#endif
  return by_tables;
}

}  // namespace

uint32_t crc32(uint32_t crc, const void* data, size_t bytes) {
  static const Function function = fastest();
  return ~function(~crc, static_cast<const uint8_t*>(data), bytes);
}

uint32_t crc32_by_tables(uint32_t crc, const void* data, size_t bytes) {
  return ~by_tables(~crc, static_cast<const uint8_t*>(data), bytes);
}

uint32_t crc32(const File& file, int64_t offset, int64_t bytes) {
  char piece[16 << 10];  // stays in the innermost cache, and of the stack
  uint32_t crc = 0;
  while (bytes > 0) {
    const size_t count = std::min<int64_t>(bytes, sizeof(piece));
    file.read_at(piece, count, offset);
    crc = crc32(crc, piece, count);
    offset += int64_t(count);
    bytes -= int64_t(count);
  }
  return crc;
}

}  // namespace toolkit
