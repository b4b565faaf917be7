#include "engine/generation/sampler.h"

#include <algorithm>
#include <cmath>

#include "engine/error.h"
#include "engine/model/finite.h"

namespace toolkit {
namespace {

// A number of [0, 1) by SplitMix64 from a counter.
double uniform(uint64_t seed, uint64_t place) {
  uint64_t z = seed * 0xd1342543de82ef95u + (place + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return double((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

// Each token once, however often it was there.
void penalize(float* logits, int64_t vocab, const std::vector<int32_t>& before, double penalty) {
  std::vector<bool> seen(size_t(vocab), false);
  for (const int32_t token : before) {
    if (seen[token]) continue;
    seen[token] = true;
    float& logit = logits[token];
    logit = float(logit > 0 ? logit / penalty : logit * penalty);
  }
}

}  // namespace

void check_logits(const float* logits, int64_t vocab) {
  if (all_finite(logits, size_t(vocab))) return;
  fail("the logits are not finite. Use another adapter or export the bundle again");
}

int32_t TokenSampler::choose(const Sampling& sampling, float* logits, int64_t vocab,
                             const std::vector<int32_t>& before, int64_t place) {
  if (sampling.repetition_penalty != 1) {
    penalize(logits, vocab, before, sampling.repetition_penalty);
  }
  check_logits(logits, vocab);
  const float* best = std::max_element(logits, logits + vocab);
  if (sampling.temperature == 0) return int32_t(best - logits);
  candidates_.clear();
  const double lowest = sampling.min_p > 0 ? std::log(sampling.min_p) : -INFINITY;
  for (int64_t token = 0; token < vocab; ++token) {
    const double below = double(logits[token]) - *best;  // exact enough for any temperature
    candidates_.push_back({below / sampling.temperature, int32_t(token)});
  }
  if (sampling.top_k > 0) keep_likeliest(sampling.top_k);
  if (sampling.top_p < 1) keep_nucleus(sampling.top_p);
  // Its bar is a share of the likeliest's probability, which the others do not change.
  const auto below = [lowest](const Candidate& c) { return c.logit < lowest; };
  candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(), below),
                    candidates_.end());
  return draw(uniform(sampling.seed, uint64_t(place)));
}

void TokenSampler::keep_likeliest(int64_t count) {
  if (count >= int64_t(candidates_.size())) return;
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
  };
  std::nth_element(candidates_.begin(), candidates_.begin() + count, candidates_.end(), likelier);
  candidates_.resize(count);
  std::sort(candidates_.begin(), candidates_.end(), likelier);
}

// The likeliest up to and with the one that reaches the probability, the likeliest first.
void TokenSampler::keep_nucleus(double probability) {
  double total = 0;
  for (const Candidate& c : candidates_) total += std::exp(c.logit);
  const auto less_likely = [](const Candidate& a, const Candidate& b) {
    return a.logit < b.logit || (a.logit == b.logit && a.token > b.token);
  };
  std::make_heap(candidates_.begin(), candidates_.end(), less_likely);
  double sum = 0;
  auto end = candidates_.end();
  do {
    std::pop_heap(candidates_.begin(), end, less_likely);
    --end;
    sum += std::exp(end->logit);
  } while (end != candidates_.begin() && sum < probability * total);
  candidates_.erase(candidates_.begin(), end);
  std::reverse(candidates_.begin(), candidates_.end());
}

int32_t TokenSampler::draw(double chance) const {
  double total = 0, sum = 0;
  for (const Candidate& c : candidates_) total += std::exp(c.logit);
  for (const Candidate& c : candidates_) {
    sum += std::exp(c.logit);
    if (sum > chance * total) return c.token;
  }
  return candidates_.back().token;
}

double log_sum_exp(const float* logits, int64_t vocab) {
  const double best = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (int64_t i = 0; i < vocab; ++i) sum += std::exp(double(logits[i]) - best);
  return best + std::log(sum);
}

}  // namespace toolkit
