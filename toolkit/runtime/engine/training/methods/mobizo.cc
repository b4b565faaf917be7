// MobiZO's parallelized estimates (P-RGE, arXiv 2409.15520): several directions a step, whose mean
// is what the adapter moves by, along B alone; A stays as it is. Directions and signs are rows of
// the same passes over the weights.
#include "engine/training/methods/zeroth_order.h"

namespace toolkit {

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
    }};

}  // namespace toolkit
