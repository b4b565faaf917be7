// Operators that keep what plain automatic differentiation keeps, for the lowering mebp: variants
// with another output, which the backward reads, and the activation of an MLP in parts.
#include "operators/shared.h"

namespace toolkit {

TOOLKIT_OPERATOR(lora_linear_saved) {
  const LoraLinear in(args, Rank::positive);
  float* y = args.out_like("y", in.x, in.w.rows);
  float* h = args.out_like("h", in.x, in.lora.rank);
  if (!args.ok()) return;
  kernels().linear(in.x.data, in.x.rows, in.w, in.bias, in.lora, in.scaling, y, h);
}

TOOLKIT_OPERATOR(lora_linear_saved_backward) {
  const Rows grad = args.rows("grad");
  const Rows x = args.rows("x");
  const Rows h = args.rows("h");
  lora_linear_backward(args, grad, x, h);
}

TOOLKIT_OPERATOR(rms_norm_saved) {
  const Rows x = args.rows("x");
  const NormWeight w = norm_weight(args, x);
  const float eps = static_cast<float>(args.real("eps"));
  float* y = args.out_like("y", x, x.columns);
  float* rstd = args.out_like("rstd", x, w.groups);
  if (args.ok()) kernels().rms_norm(x.data, w.data, x.rows * w.groups, w.columns, eps, y, rstd);
}

TOOLKIT_OPERATOR(rms_norm_saved_backward) {
  const Rows grad = args.rows("grad");
  const float* x = args.rows("x", grad.rows, grad.columns);
  const NormWeight w = norm_weight(args, grad);
  const float* rstd = args.rows("rstd", grad.rows, w.groups);
  float* dx = args.out_like("out", grad, grad.columns);
  if (!args.ok()) return;
  kernels().rms_norm_backward(grad.data, x, w.data, rstd, grad.rows * w.groups, w.columns, 0.0f,
                              dx);
}

TOOLKIT_OPERATOR(attention_saved) {
  const AttentionInputs in(args);
  const AttentionShape s = in.shape(args);
  float* out = args.out_like("out", in.q, in.q.columns);
  float* probs = args.out("probs", {s.heads, s.tokens, s.tokens});
  if (args.ok()) kernels().attention_saved(s, in.q.data, in.k.data, in.v.data, out, probs);
}

TOOLKIT_OPERATOR(attention_saved_backward) {
  const Rows grad = args.rows("grad");
  const AttentionInputs in(args);
  const Rows probs = args.rows("probs");
  const AttentionShape s = in.shape(args);
  args.require(probs.rows == s.heads * s.tokens && probs.columns == s.tokens, "probs",
               "must be [H, T, T]");
  const AttentionGradients out(args, grad, in);
  if (!args.ok()) return;
  kernels().attention_saved_backward(s, grad.data, in.q.data, in.k.data, in.v.data, probs.data,
                                     out.dq, out.dk, out.dv);
}

static void gated(Arguments& args, Activation activation) {
  const Rows gate = args.rows("gate");
  const float* up = args.rows("up", gate.rows, gate.columns);
  float* out = args.out_like("out", gate, gate.columns);
  if (!args.ok()) return;
  const int64_t count = gate.rows * gate.columns;
  if (activation == Activation::gelu) {
    kernels().gelu_mul(gate.data, up, count, out);
  } else {
    kernels().silu_mul(gate.data, up, count, out);
  }
}

static void gated_backward(Arguments& args, Activation activation) {
  const Rows grad = args.rows("grad");
  const float* gate = args.rows("gate", grad.rows, grad.columns);
  const float* up = args.rows("up", grad.rows, grad.columns);
  float* dgate = args.out_like("dgate", grad, grad.columns);
  float* dup = args.out_like("dup", grad, grad.columns);
  if (!args.ok()) return;
  const int64_t count = grad.rows * grad.columns;
  if (activation == Activation::gelu) {
    kernels().gelu_mul_backward(grad.data, gate, up, count, dgate, dup);
  } else {
    kernels().silu_mul_backward(grad.data, gate, up, count, dgate, dup);
  }
}

TOOLKIT_OPERATOR(silu_mul) { gated(args, Activation::silu); }
TOOLKIT_OPERATOR(gelu_mul) { gated(args, Activation::gelu); }
TOOLKIT_OPERATOR(silu_mul_backward) { gated_backward(args, Activation::silu); }
TOOLKIT_OPERATOR(gelu_mul_backward) { gated_backward(args, Activation::gelu); }

TOOLKIT_OPERATOR(swiglu) {
  const Rows gate_up = args.rows("gate_up");
  args.require(gate_up.columns % 2 == 0, "gate_up", "must have two halves");
  float* out = args.out_like("out", gate_up, gate_up.columns / 2);
  if (args.ok()) kernels().swiglu(gate_up.data, gate_up.rows, gate_up.columns / 2, out);
}

TOOLKIT_OPERATOR(swiglu_backward) {
  const Rows grad = args.rows("grad");
  const float* gate_up = args.rows("gate_up", grad.rows, 2 * grad.columns);
  float* out = args.out_like("out", grad, 2 * grad.columns);
  if (args.ok()) kernels().swiglu_backward(grad.data, gate_up, grad.rows, grad.columns, out);
}

}  // namespace toolkit
