// MeZO (arXiv 2305.17333): one direction a step, of all trained adapters. The losses are those of
// perturbed copies, so that the adapter keeps its bits where p + eps z - 2 eps z + eps z would not.
#include "engine/training/methods/zeroth_order.h"

namespace toolkit {

extern const MethodRow kMezo;
const MethodRow kMezo = {
    "mezo",
    "MeZO: p -= lr (g z + weight-decay p), z normal, g = (L(p + zo-eps z) - L(p - zo-eps z)) / "
    "(2 zo-eps)",
    {{"zo-eps"}, {"freeze"}},
    false,
    false,
    false,
    true,
    [](const MethodParts& parts) -> std::unique_ptr<StepMethod> {
      return std::make_unique<ZerothOrder>(parts, 1, parts.options.freeze == "a");
    }};

}  // namespace toolkit
