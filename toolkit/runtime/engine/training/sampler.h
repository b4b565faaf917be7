// Order of samples, reproducible anywhere.
//
// Epoch e visits a permutation of 0..n-1: Fisher-Yates from the identity, for i = n-1 down to 1
// swap element i with element below(i + 1), numbers from SplitMix64 (Steele, Lea and Flood, 2014)
// seeded with seed + e. below(m) is unbiased: numbers at or above the largest multiple of m below
// 2^64 are drawn again, the rest taken modulo m. Position p of a run is element p mod n of epoch p
// / n.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace toolkit {

enum class Order { shuffled, sequential };

Order order_from(const std::string& name);  // throws UsageError

class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t next();
  uint64_t below(uint64_t bound);  // bound >= 1

 private:
  uint64_t state_;
};

class Sampler {
 public:
  Sampler(int64_t samples, uint64_t seed, Order order, int64_t position = 0);

  int64_t next();
  int64_t position() const { return position_; }
  // Goes back to where it was, for samples that were not used.
  void return_to(int64_t position) { position_ = position; }

 private:
  void shuffle(int64_t epoch);

  int64_t samples_;
  uint64_t seed_;
  Order order_;
  int64_t position_;
  int64_t epoch_ = -1;
  std::vector<uint32_t> permutation_;
};

}  // namespace toolkit
