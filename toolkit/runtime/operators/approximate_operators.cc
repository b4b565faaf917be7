// The operators of the lowerings ms-bp and approx-bp: a norm whose backward reads what it returned,
// activations whose backward reads two bits an element, and what is between them.
#include "kernels/integers.h"
#include "operators/shared.h"

namespace toolkit {

static void coded(Arguments& args, Activation activation) {
  const Rows x = args.rows("x");
  float* y = args.out_like("y", x, x.columns);
  uint8_t* codes = args.out_bytes("codes", x, divide_up(x.columns, kCodesPerByte));
  if (args.ok()) kernels().coded_activation(activation, x.data, x.rows, x.columns, y, codes);
}

static void coded_backward(Arguments& args, Activation activation) {
  const Rows grad = args.rows("grad");
  const uint8_t* codes = args.bytes("codes", grad.rows * divide_up(grad.columns, kCodesPerByte));
  float* out = args.out_like("out", grad, grad.columns);
  if (!args.ok()) return;
  kernels().coded_activation_backward(activation, grad.data, codes, grad.rows, grad.columns, out);
}

TOOLKIT_OPERATOR(resilu2) { coded(args, Activation::silu); }
TOOLKIT_OPERATOR(regelu2) { coded(args, Activation::gelu); }
TOOLKIT_OPERATOR(resilu2_backward) { coded_backward(args, Activation::silu); }
TOOLKIT_OPERATOR(regelu2_backward) { coded_backward(args, Activation::gelu); }

TOOLKIT_OPERATOR(normalize) {
  const Rows x = args.rows("x");
  const float eps = static_cast<float>(args.real("eps"));
  float* y = args.out_like("y", x, x.columns);
  float* rstd = args.out_like("rstd", x, 1);
  if (args.ok()) kernels().normalize(x.data, x.rows, x.columns, eps, y, rstd);
}

TOOLKIT_OPERATOR(normalize_backward) {
  const Rows grad = args.rows("grad");
  const float* y = args.rows("y", grad.rows, grad.columns);
  const float* rstd = args.rows("rstd", grad.rows, 1);
  float* dx = args.out_like("out", grad, grad.columns);
  if (!args.ok()) return;
  kernels().normalize_backward(grad.data, y, rstd, grad.rows, grad.columns, dx);
}

TOOLKIT_OPERATOR(multiply) {
  const Rows a = args.rows("a");
  const float* b = args.rows("b", a.rows, a.columns);
  float* out = args.out_like("out", a, a.columns);
  if (args.ok()) kernels().multiply_elements(a.data, b, a.rows * a.columns, out);
}

TOOLKIT_OPERATOR(scale_features) {
  const Rows x = args.rows("x");
  const float* weight = args.floats("weight", x.columns);
  float* out = args.out_like("out", x, x.columns);
  if (args.ok()) kernels().scale_features(x.data, weight, x.rows, x.columns, out);
}

TOOLKIT_OPERATOR(halves) {
  const Rows x = args.rows("x");
  args.require(x.columns % 2 == 0, "x", "must have two halves");
  float* first = args.out_like("first", x, x.columns / 2);
  float* second = args.out_like("second", x, x.columns / 2);
  if (args.ok()) kernels().halves(x.data, x.rows, x.columns / 2, first, second);
}

TOOLKIT_OPERATOR(joined) {
  const Rows first = args.rows("first");
  const float* second = args.rows("second", first.rows, first.columns);
  float* out = args.out_like("out", first, 2 * first.columns);
  if (args.ok()) kernels().joined(first.data, second, first.rows, first.columns, out);
}

}  // namespace toolkit
