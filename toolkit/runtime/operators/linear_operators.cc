// quantized_linear, lora_linear, the MLPs and their backward.
#include "kernels/integers.h"
#include "operators/neighbours.h"
#include "operators/shared.h"
#include "operators/together.h"

namespace toolkit {

/// At once, with those of other programs, or with those beside it.
static void compute_linear(const Rows& x, const QuantizedMatrix& w, const float* bias,
                           const Adapter& lora, float scaling, float* y) {
  Together* together = Together::current();
  if (together != nullptr &&
      together->linear({x.data, lora, y, nullptr}, x.rows, w, bias, scaling)) {
    return;
  }
  Neighbours* neighbours = Neighbours::current();
  if (neighbours != nullptr && neighbours->take(x.data, x.rows, {w, bias, lora, scaling, y}))
    return;
  kernels().linear(x.data, x.rows, w, bias, lora, scaling, y, nullptr);
}

static void compute_mlp(const Rows& x, const Mlp& m, float* y) {
  Together* together = Together::current();
  if (together != nullptr && together->mlp({x.data, m, y}, x.rows)) return;
  kernels().mlp(x.data, x.rows, m, y);
}

TOOLKIT_OPERATOR(quantized_linear) {
  const Rows x = args.rows("x");
  const QuantizedMatrix w = args.weight("weight");
  const float* bias = args.floats("bias", w.rows, true);
  args.require(x.columns == w.depth, "x", "must have the weight's K columns");
  float* y = args.out_like("out", x, w.rows);
  if (args.ok()) compute_linear(x, w, bias, {}, 0.0f, y);
}

TOOLKIT_OPERATOR(quantized_linear_backward) {
  const Rows grad = args.rows("grad");
  const QuantizedMatrix w = args.weight("weight");
  args.require(grad.columns == w.rows, "grad", "must have the weight's N columns");
  float* dx = args.out_like("out", grad, w.depth);
  if (args.ok())
    kernels().linear_backward(grad.data, nullptr, nullptr, grad.rows, w, {}, 0.0f, dx, {});
}

LoraLinear::LoraLinear(Arguments& args, Rank rank)
    : x(args.rows("x")),
      w(args.weight("weight")),
      bias(args.floats("bias", w.rows, true)),
      lora(args.adapter("lora", w.rows, w.depth, false, rank)),
      scaling(static_cast<float>(args.real("scaling"))) {
  args.require(x.columns == w.depth, "x", "must have the weight's K columns");
}

TOOLKIT_OPERATOR(lora_linear) {
  const LoraLinear in(args, Rank::any);
  float* y = args.out_like("out", in.x, in.w.rows);
  if (!args.ok()) return;
  compute_linear(in.x, in.w, in.bias, in.lora, in.scaling, y);
}

void lora_linear_backward(Arguments& args, const Rows& grad, const Rows& x, const Rows& h) {
  const QuantizedMatrix w = args.weight("weight");
  const Adapter lora = args.adapter("lora", w.rows, w.depth, false, Rank::positive);
  const float scaling = static_cast<float>(args.real("scaling"));
  args.require(x.columns == w.depth, "x", "must have the weight's K columns");
  args.require(grad.columns == w.rows && grad.rows == x.rows, "grad", "must be [T, N]");
  const bool fits = h.columns == lora.rank && h.rows == x.rows;
  args.require(h.tensor == nullptr || fits, "h", "must be [T, R]");
  float* dx = args.out_like("dx", x, w.depth);
  const AdapterGradient gradient = args.out_adapter("da, db", lora, w.rows, w.depth);
  if (!args.ok()) return;
  kernels().linear_backward(grad.data, x.data, h.data, x.rows, w, lora, scaling, dx, gradient);
}

TOOLKIT_OPERATOR(lora_linear_backward) {
  const Rows grad = args.rows("grad");
  const Rows x = args.rows("x");
  lora_linear_backward(args, grad, x, {});
}

static Mlp read_mlp(Arguments& args, const Rows& x, Activation activation, Rank rank) {
  Mlp m;
  m.activation = activation;
  m.gate = args.weight("gate", kernels().tiles.features);
  m.up = args.weight("up", kernels().tiles.features);
  m.down = args.weight("down");
  const int64_t features = m.gate.rows, size = m.gate.depth;
  m.gate_lora = args.adapter("gate adapter", features, size, true, rank);
  m.up_lora = args.adapter("up adapter", features, size, true, rank);
  m.down_lora = args.adapter("down adapter", size, features, true, rank);
  m.scaling = static_cast<float>(args.real("scaling"));
  args.require(x.columns == size, "x", "must have the gate's K columns");
  args.require(m.up.rows == features && m.up.depth == size, "up", "must have the gate's shape");
  args.require(m.down.rows == size && m.down.depth == features, "down",
               "must have the gate's shape transposed");
  return m;
}

/// The upper or lower half of a layer's rows.
static QuantizedMatrix half_of(const QuantizedMatrix& w, bool second) {
  QuantizedMatrix half = w;
  half.rows = w.rows / 2;
  if (!second) return half;
  const int64_t groups = half.rows * (w.depth / kQuantGroup);
  half.codes += half.rows / kPanel * w.panel_bytes();
  half.scale += groups;
  if (w.offset != nullptr) half.offset += groups;
  return half;
}

static Mlp read_fused_mlp(Arguments& args, const Rows& x, Rank rank) {
  Mlp m;
  m.fused = true;
  const QuantizedMatrix gate_up = args.weight("gate_up", 2 * kernels().tiles.features);
  m.down = args.weight("down");
  const int64_t size = gate_up.depth;
  const Adapter lora = args.adapter("gate_up adapter", gate_up.rows, size, true, rank);
  m.down_lora = args.adapter("down adapter", m.down.rows, m.down.depth, true, rank);
  m.scaling = static_cast<float>(args.real("scaling"));
  args.require(gate_up.rows % (2 * kPanel) == 0, "gate_up", "must be two halves of whole panels");
  args.require(x.columns == size, "x", "must have gate_up's K columns");
  args.require(m.down.rows == size && 2 * m.down.depth == gate_up.rows, "down",
               "must have the shape of gate_up's half transposed");
  m.gate = half_of(gate_up, false);
  m.up = half_of(gate_up, true);
  m.gate_lora = m.up_lora = lora;
  if (lora.b != nullptr) m.up_lora.b += m.up.rows * lora.rank;
  return m;
}

TOOLKIT_OPERATOR(fused_swiglu_mlp) {
  const Rows x = args.rows("x");
  const Mlp m = read_fused_mlp(args, x, Rank::any);
  float* y = args.out_like("out", x, m.gate.depth);
  if (args.ok()) compute_mlp(x, m, y);
}

TOOLKIT_OPERATOR(fused_swiglu_mlp_backward) {
  const Rows grad = args.rows("grad");
  const Rows x = args.rows("x");
  const Mlp m = read_fused_mlp(args, x, Rank::positive);
  const int64_t features = m.gate.rows, size = m.gate.depth;
  args.require(grad.rows == x.rows && grad.columns == size, "grad", "must have the shape of x");
  float* dx = args.out_like("dx", x, size);
  MlpGradient gradient;
  gradient.gate = args.out_adapter("dgate_up_a, dgate_up_b", m.gate_lora, 2 * features, size);
  gradient.up = gradient.gate;
  if (gradient.up.b != nullptr) gradient.up.b += features * m.up_lora.rank;
  gradient.down = args.out_adapter("ddown_a, ddown_b", m.down_lora, size, features);
  if (args.ok()) kernels().mlp_backward(grad.data, x.data, x.rows, m, dx, gradient);
}

static void gated_mlp(Arguments& args, Activation activation) {
  const Rows x = args.rows("x");
  const Mlp m = read_mlp(args, x, activation, Rank::any);
  float* y = args.out_like("out", x, m.gate.depth);
  if (args.ok()) compute_mlp(x, m, y);
}

static void gated_mlp_backward(Arguments& args, Activation activation) {
  const Rows grad = args.rows("grad");
  const Rows x = args.rows("x");
  const Mlp m = read_mlp(args, x, activation, Rank::positive);
  const int64_t features = m.gate.rows, size = m.gate.depth;
  args.require(grad.rows == x.rows && grad.columns == size, "grad", "must have the shape of x");
  float* dx = args.out_like("dx", x, size);
  MlpGradient gradient;
  gradient.gate = args.out_adapter("dgate_a, dgate_b", m.gate_lora, features, size);
  gradient.up = args.out_adapter("dup_a, dup_b", m.up_lora, features, size);
  gradient.down = args.out_adapter("ddown_a, ddown_b", m.down_lora, size, features);
  if (args.ok()) kernels().mlp_backward(grad.data, x.data, x.rows, m, dx, gradient);
}

TOOLKIT_OPERATOR(swiglu_mlp) { gated_mlp(args, Activation::silu); }
TOOLKIT_OPERATOR(geglu_mlp) { gated_mlp(args, Activation::gelu); }
TOOLKIT_OPERATOR(swiglu_mlp_backward) { gated_mlp_backward(args, Activation::silu); }
TOOLKIT_OPERATOR(geglu_mlp_backward) { gated_mlp_backward(args, Activation::gelu); }

}  // namespace toolkit
