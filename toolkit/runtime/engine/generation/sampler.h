// Chooses the next token from logits.
#pragma once

#include <cstdint>
#include <vector>

namespace toolkit {

// In this order, as `transformers` does: the penalty, the temperature, then what is left of the
// likeliest. A temperature of 0 takes the likeliest, of equal ones the first; so does one so small
// that nothing else is left.
struct Sampling {
  double temperature = 0;
  int64_t top_k = 0;              // 0: all
  double top_p = 1, min_p = 0;    // 1 and 0: all
  double repetition_penalty = 1;  // of tokens that were there
  uint64_t seed = 0;
};

// Throws Error where one of the logits [vocab] is not finite.
void check_logits(const float* logits, int64_t vocab);

class TokenSampler {
 public:
  // `place` is how many tokens there are before: what is drawn depends on it and on the seed alone.
  // The logits [vocab] are changed. Throws Error where one of them is not finite.
  int32_t choose(const Sampling& sampling, float* logits, int64_t vocab,
                 const std::vector<int32_t>& before, int64_t place);

 private:
  struct Candidate {
    double logit;  // less the highest: 0 at most
    int32_t token;
  };
  void keep_likeliest(int64_t count);
  void keep_nucleus(double probability);
  int32_t draw(double chance) const;

  std::vector<Candidate> candidates_;
};

// Log of the sum of exponentials, by which log probabilities are less than logits.
double log_sum_exp(const float* logits, int64_t vocab);

}  // namespace toolkit
