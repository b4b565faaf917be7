// Checksum of the resume state: notices any damaged byte, says nothing about intent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace toolkit {

// Folds little-endian 64-bit words, the last one padded with zeros, then the length. Every step is
// a bijection of the running value, so a change of one word always changes the result.
class Checksum {
 public:
  void add(const void* data, size_t bytes) {
    const unsigned char* from = static_cast<const unsigned char*>(data);
    length_ += bytes;
    for (; bytes >= 8; from += 8, bytes -= 8) {
      uint64_t word;
      std::memcpy(&word, from, 8);
      fold(word);
    }
    if (bytes > 0) {
      uint64_t word = 0;
      std::memcpy(&word, from, bytes);
      fold(word);
    }
  }
  uint64_t value() const {
    Checksum end = *this;
    end.fold(length_);
    return end.hash_;
  }

 private:
  void fold(uint64_t word) {
    hash_ = (hash_ ^ word) * 0x9E3779B97F4A7C15u;
    hash_ ^= hash_ >> 32;
  }
  uint64_t hash_ = 0x746F6F6C6B697400u;
  uint64_t length_ = 0;
};

}  // namespace toolkit
