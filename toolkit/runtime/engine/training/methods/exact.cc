// The exact gradient: forward with every block's input kept, then backward block by block.
#include "engine/training/methods/backpropagation.h"

namespace toolkit {

extern const MethodRow kExact;
const MethodRow kExact = {"exact",
                          "the gradient of the loss, by backpropagation block by block",
                          {{"max-grad-norm"}, {"clipping"}, {"checkpoints"}, {"freeze"}},
                          true,
                          true,
                          true,
                          false,
                          [](const MethodParts& parts) -> std::unique_ptr<StepMethod> {
                            return std::make_unique<Backpropagation>(parts);
                          }};

}  // namespace toolkit
