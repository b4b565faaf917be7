#include "engine/training/sampler.h"

#include <utility>

#include "engine/error.h"

namespace toolkit {

Order order_from(const std::string& name) {
  if (name == "shuffled") return Order::shuffled;
  if (name == "sequential") return Order::sequential;
  fail_usage("unknown order '%s'. Choose shuffled or sequential", name.c_str());
}

uint64_t SplitMix64::next() {
  uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

uint64_t SplitMix64::below(uint64_t bound) {
  const uint64_t excess = (UINT64_MAX % bound + 1) % bound;  // 2^64 mod bound
  const uint64_t last = UINT64_MAX - excess;
  uint64_t value = next();
  while (value > last) value = next();
  return value % bound;
}

Sampler::Sampler(int64_t samples, uint64_t seed, Order order, int64_t position)
    : samples_(samples), seed_(seed), order_(order), position_(position) {}

int64_t Sampler::next() {
  const int64_t index = position_ % samples_;
  if (order_ == Order::shuffled && position_ / samples_ != epoch_) shuffle(position_ / samples_);
  ++position_;
  return order_ == Order::sequential ? index : permutation_[index];
}

void Sampler::shuffle(int64_t epoch) {
  epoch_ = epoch;
  permutation_.resize(samples_);
  for (int64_t i = 0; i < samples_; ++i) permutation_[i] = uint32_t(i);
  SplitMix64 random(seed_ + uint64_t(epoch));
  for (int64_t i = samples_ - 1; i > 0; --i) {
    std::swap(permutation_[i], permutation_[random.below(uint64_t(i) + 1)]);
  }
}

}  // namespace toolkit
