// MobiZO's parallelized estimates (P-RGE, arXiv 2409.15520): several directions a step, whose mean
// is what the adapter moves by, along B alone; A stays as it is. Directions and signs are rows of
// the same passes over the weights.
#include <algorithm>

#include "engine/training/methods/zeroth_order.h"
#include "kernels/kernels.h"

namespace toolkit {
namespace {

// Rows of so many tokens share the unpacking of weights. More gain little more, and of each row
// the intermediate results and an adapter are in memory.
constexpr int64_t kTokens = 128;

// Whole pairs of both signs.
int64_t rows_together(const Options& options, int64_t tokens) {
  const int64_t pairs = std::min(options.queries * options.grad_accum, kTokens / (2 * tokens));
  return pairs < 1 ? 1 : std::min(2 * pairs, kMostTogether);
}

}  // namespace

extern const MethodRow kMobizo;
const MethodRow kMobizo = {
    "mobizo",
    "MobiZO (P-RGE): B -= lr (mean of g z over so many queries + weight-decay B), A as it is, "
    "all queries in passes that read the weights once",
    {{"zo-eps"}, {"queries"}},
    false,
    false,
    false,
    true,
    [](const MethodParts& parts) -> std::unique_ptr<StepMethod> {
      return std::make_unique<ZerothOrder>(parts, parts.options.queries, true);
    },
    rows_together};

}  // namespace toolkit
