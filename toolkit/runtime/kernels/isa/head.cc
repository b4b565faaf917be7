// Rows of logits and of the gradient in the loss head.
#include <cmath>

#include "kernels/isa/rows.h"
#include "kernels/isa/softmax.h"

namespace toolkit {
namespace TOOLKIT_ISA {

void head_strip(HeadRow* row, int64_t first, int64_t count, int64_t padded, float* logits,
                float* sums, int64_t size) {
  if (row->label >= first && row->label < first + count)
    row->label_logit = logits[row->label - first];
  RunningSoftmax& running = row->softmax;
  const float best = row_maximum(logits, count, running.maximum);
  const float correction = std::exp(running.maximum - best);
  running.total = running.total * correction + exponentials(logits, count, best);
  running.maximum = best;
  clear_row(logits + count, padded - count);
  if (sums != nullptr && correction != 1.0f) scale_row(sums, size, correction);
}

void head_gradient(const HeadRow& row, const float* sums, int64_t size, float* out) {
  const float factor = 1.0f / row.softmax.total;
  for_vectors(0, size, [&](int64_t k, int n) {
    store_part(out + k, load_part(sums + k, n) * factor - load_part(out + k, n), n);
  });
}

void head_loss(const HeadRow* rows, int64_t count, double* total, float* loss) {
  double part = 0;
  for (int64_t i = 0; i < count; ++i) {
    part += static_cast<double>(rows[i].softmax.maximum) +
            std::log(static_cast<double>(rows[i].softmax.total)) -
            static_cast<double>(rows[i].label_logit);
  }
  *total += part;
  *loss = static_cast<float>(*total);
}

}  // namespace TOOLKIT_ISA
}  // namespace toolkit
