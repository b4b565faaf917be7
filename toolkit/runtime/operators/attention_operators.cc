// rope, attention and its variants.
#include "operators/register.h"

namespace toolkit {

TOOLKIT_OPERATOR(rope) {
  const Rows x = args.rows("x");
  const int32_t* positions = args.ints("positions", x.rows);
  const Tensor* frequencies = args.rows("inv_freq").tensor;
  const float scaling = static_cast<float>(args.real("attention_scaling"));
  const bool inverse = args.boolean("inverse");
  if (!args.ok()) return;
  const int64_t size = 2 * frequencies->numel();
  args.require(x.columns % size == 0, "x", "must have a multiple of twice inv_freq's columns");
  float* y = args.out_like("out", x, x.columns);
  if (!args.ok()) return;
  kernels().rope(x.data, positions, frequencies->const_data_ptr<float>(), x.rows, x.columns / size,
                 size, scaling, inverse, y);
}

namespace {

// k and v are checked once heads and kv_heads, which follow them, are known.
struct QkvReader {
  Rows q, k, v;

  explicit QkvReader(Arguments& args) : q(args.rows("q")), k(args.rows("k")), v(args.rows("v")) {}

  AttentionShape shape(Arguments& args) const {
    AttentionShape s;
    s.start = args.ints("start", q.rows);
    s.heads = args.integer("heads");
    s.kv_heads = args.integer("kv_heads");
    s.scale = static_cast<float>(args.real("scale"));
    if (!args.ok()) return s;
    s.tokens = q.rows;
    args.require(s.heads > 0 && s.kv_heads > 0 && s.heads % s.kv_heads == 0, "heads",
                 "must be a multiple of kv_heads");
    if (!args.ok()) return s;
    s.head_size = q.columns / s.heads;
    args.require(s.head_size * s.heads == q.columns, "q", "must have a multiple of heads columns");
    const int64_t columns = s.kv_heads * s.head_size;
    args.require(k.rows == q.rows && k.columns == columns, "k",
                 "must be [T, kv_heads * head size]");
    args.require(v.rows == q.rows && v.columns == columns, "v",
                 "must be [T, kv_heads * head size]");
    if (!args.ok()) return s;
    bool valid = true;
    for (int64_t t = 0; t < s.tokens; ++t) valid = valid && s.start[t] >= 0 && s.start[t] <= t;
    args.require(valid, "start", "must satisfy 0 <= start[t] <= t");
    return s;
  }
};

void attention(Arguments& args, bool saved) {
  const QkvReader in(args);
  const AttentionShape s = in.shape(args);
  float* out = args.out_like("out", in.q, in.q.columns);
  float* probs = saved ? args.out("probs", {s.heads, s.tokens, s.tokens}) : nullptr;
  if (!args.ok()) return;
  if (saved) {
    kernels().attention_saved(s, in.q.data, in.k.data, in.v.data, out, probs);
  } else {
    kernels().attention(s, in.q.data, in.k.data, in.v.data, out);
  }
}

void attention_backward(Arguments& args, bool saved) {
  const Rows grad = args.rows("grad");
  const QkvReader in(args);
  Rows probs;
  if (saved) probs = args.rows("probs");
  const AttentionShape s = in.shape(args);
  args.require(grad.rows == in.q.rows && grad.columns == in.q.columns, "grad",
               "must have the shape of q");
  args.require(!saved || (probs.rows == s.heads * s.tokens && probs.columns == s.tokens), "probs",
               "must be [H, T, T]");
  float* dq = args.out_like("dq", in.q, in.q.columns);
  float* dk = args.out_like("dk", in.k, in.k.columns);
  float* dv = args.out_like("dv", in.v, in.v.columns);
  if (!args.ok()) return;
  if (saved) {
    kernels().attention_saved_backward(s, grad.data, in.q.data, in.k.data, in.v.data, probs.data,
                                       dq, dk, dv);
  } else {
    kernels().attention_backward(s, grad.data, in.q.data, in.k.data, in.v.data, dq, dk, dv);
  }
}

}  // namespace

TOOLKIT_OPERATOR(attention) { attention(args, false); }
TOOLKIT_OPERATOR(attention_saved) { attention(args, true); }
TOOLKIT_OPERATOR(attention_backward) { attention_backward(args, false); }
TOOLKIT_OPERATOR(attention_saved_backward) { attention_backward(args, true); }

}  // namespace toolkit
