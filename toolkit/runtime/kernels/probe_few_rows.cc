// Linear layers of a few rows together and one by one, for kernels_probe.
#include "kernels/error.h"
#include "kernels/few_rows.h"
#include "kernels/probe.h"
#include "kernels/probe_data.h"

namespace toolkit {

void check_few_rows(const Kernels& k) {
  constexpr int64_t kDepth = 288, kRows[] = {80, 16, 48, 160}, kRanks[] = {5, 0, 57, 8};
  for (const int64_t tokens : {int64_t(1), k.few_rows.most}) {
    Random random;
    const Floats x = random.floats(tokens * kDepth), bias = random.floats(160);
    std::vector<Weight> weights;
    std::vector<Lora> loras;
    std::vector<Floats> together, alone;
    for (int i = 0; i < kMostNeighbours; ++i) {
      weights.emplace_back(random, kRows[i], kDepth, i < 3 ? 4 : 8, i % 2 == 0);
      loras.emplace_back(random, kRows[i], kDepth, kRanks[i]);
      together.emplace_back(tokens * kRows[i]);
      alone.emplace_back(tokens * kRows[i]);
    }
    FewRowsLinear layers[kMostNeighbours];
    for (int i = 0; i < kMostNeighbours; ++i) {
      const Adapter lora = kRanks[i] > 0 ? loras[i].adapter() : Adapter{};
      const float* added = i < 2 ? bias.data() : nullptr;
      layers[i] = {weights[i].matrix, added, lora, 0.5f, together[i].data()};
      few_rows_linear(k, x.data(), tokens, weights[i].matrix, added, lora, 0.5f, alone[i].data());
    }
    few_rows_linears(k, x.data(), tokens, layers, kMostNeighbours);
    for (int i = 0; i < kMostNeighbours; ++i) {
      if (!same_bits(together[i], alone[i])) {
        throw Error(std::string(k.isa) + ": few rows have other bits beside other layers");
      }
    }
  }
}

}  // namespace toolkit
