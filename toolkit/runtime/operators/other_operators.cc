// Norms, embedding, loss head and the element-wise operators.
#include "kernels/primitives.h"
#include "operators/shared.h"

namespace toolkit {

NormWeight norm_weight(Arguments& args, const Rows& rows) {
  const Rows weight = args.rows("weight");
  const bool fits = weight.columns > 0 && rows.columns % weight.columns == 0;
  if (!args.require(weight.rows == 1 && fits, "weight", "must have a divisor of x's columns"))
    return {};
  return {weight.data, weight.columns, rows.columns / weight.columns};
}

namespace {

/// Labels are -100 (ignored) or classes.
bool labels_valid(const int32_t* labels, int64_t count, int64_t vocab) {
  for (int64_t t = 0; t < count; ++t) {
    if (labels[t] != -100 && (labels[t] < 0 || labels[t] >= vocab)) return false;
  }
  return true;
}

void cross_entropy(Arguments& args, bool gradient) {
  const Rows x = args.rows("x");
  const int32_t* labels = args.ints("labels", x.rows);
  const QuantizedMatrix w = args.weight("weight", kernels().tiles.classes);
  const int64_t vocab = args.integer("vocab");
  args.require(x.columns == w.depth, "x", "must have the weight's K columns");
  args.require(vocab > 0 && vocab <= w.rows && w.rows - vocab < 16, "vocab",
               "must fit the weight's rows");
  if (!args.ok()) return;
  args.require(labels_valid(labels, x.rows, vocab), "labels", "must be -100 or below vocab");
  float* loss = args.out(gradient ? "loss" : "out", {});
  float* dx = gradient ? args.out_like("dx", x, x.columns) : nullptr;
  if (args.ok()) kernels().cross_entropy(x.data, labels, x.rows, w, vocab, loss, dx);
}

}  // namespace

TOOLKIT_OPERATOR(rms_norm) {
  const Rows x = args.rows("x");
  const NormWeight w = norm_weight(args, x);
  const float eps = static_cast<float>(args.real("eps"));
  float* y = args.out_like("out", x, x.columns);
  if (args.ok()) kernels().rms_norm(x.data, w.data, x.rows * w.groups, w.columns, eps, y, nullptr);
}

TOOLKIT_OPERATOR(rms_norm_backward) {
  const Rows grad = args.rows("grad");
  const float* x = args.rows("x", grad.rows, grad.columns);
  const NormWeight w = norm_weight(args, grad);
  const float eps = static_cast<float>(args.real("eps"));
  float* dx = args.out_like("out", grad, grad.columns);
  if (!args.ok()) return;
  kernels().rms_norm_backward(grad.data, x, w.data, nullptr, grad.rows * w.groups, w.columns, eps,
                              dx);
}

TOOLKIT_OPERATOR(linear_cross_entropy) { cross_entropy(args, true); }
TOOLKIT_OPERATOR(linear_cross_entropy_loss) { cross_entropy(args, false); }

TOOLKIT_OPERATOR(quantized_embedding) {
  const Tensor* tokens = args.int_tensor("tokens");
  const QuantizedMatrix w = args.weight("weight", kPanel);
  if (!args.ok()) return;
  const int32_t* ids = tokens->const_data_ptr<int32_t>();
  bool valid = tokens->dim() == 2;
  for (int64_t t = 0; t < tokens->numel(); ++t) valid = valid && ids[t] >= 0 && ids[t] < w.rows;
  if (!args.require(valid, "tokens", "must be [1, T] and below the vocabulary's size")) return;
  float* out = args.out("out", {tokens->size(0), tokens->size(1), w.depth});
  if (args.ok()) kernels().embedding(ids, tokens->numel(), w, out);
}

TOOLKIT_OPERATOR(add) {
  const Rows a = args.rows("a");
  const float* b = args.rows("b", a.rows, a.columns);
  float* out = args.out_like("out", a, a.columns);
  if (args.ok()) kernels().add(a.data, b, a.rows * a.columns, out);
}

TOOLKIT_OPERATOR(scale) {
  const Rows x = args.rows("x");
  const float* factor = args.floats("factor", 1);
  float* out = args.out_like("out", x, x.columns);
  if (args.ok()) kernels().scale(x.data, *factor, x.rows * x.columns, out);
}

}  // namespace toolkit
