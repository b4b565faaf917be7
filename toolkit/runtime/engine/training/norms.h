// Norms of gradients, and what clipping makes of them.
#pragma once

#include <cstddef>

namespace toolkit {

// Sum of squares in double: the same bits each time and with any number of threads.
double sum_of_squares(const float* values, size_t count);

// Factor of torch.nn.utils.clip_grad_norm_: min(1, max_norm / (norm + 1e-6)).
double clip_factor(double norm, double max_norm);

}  // namespace toolkit
