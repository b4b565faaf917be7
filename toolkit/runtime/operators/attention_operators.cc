// rope, attention with its backward, and attention over a cache.
#include "kernels/dry_run.h"
#include "operators/shared.h"

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

AttentionInputs::AttentionInputs(Arguments& args)
    : q(args.rows("q")), k(args.rows("k")), v(args.rows("v")) {}

AttentionShape AttentionInputs::shape(Arguments& args) const {
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
  args.require(k.rows == q.rows && k.columns == columns, "k", "must be [T, kv_heads * head size]");
  args.require(v.rows == q.rows && v.columns == columns, "v", "must be [T, kv_heads * head size]");
  if (!args.ok()) return s;
  bool valid = true;
  for (int64_t t = 0; t < s.tokens; ++t) valid = valid && s.start[t] >= 0 && s.start[t] <= t;
  args.require(valid, "start", "must satisfy 0 <= start[t] <= t");
  return s;
}

AttentionGradients::AttentionGradients(Arguments& args, const Rows& grad,
                                       const AttentionInputs& in) {
  args.require(grad.rows == in.q.rows && grad.columns == in.q.columns, "grad",
               "must have the shape of q");
  dq = args.out_like("dq", in.q, in.q.columns);
  dk = args.out_like("dk", in.k, in.k.columns);
  dv = args.out_like("dv", in.v, in.v.columns);
}

TOOLKIT_OPERATOR(attention) {
  const AttentionInputs in(args);
  const AttentionShape s = in.shape(args);
  float* out = args.out_like("out", in.q, in.q.columns);
  if (args.ok()) kernels().attention(s, in.q.data, in.k.data, in.v.data, out);
}

TOOLKIT_OPERATOR(attention_cached) {
  const AttentionInputs in(args);
  const Rows keys = args.rows("keys"), values = args.rows("values");
  const int32_t* positions = args.ints("positions", in.q.rows);
  CacheShape s;
  s.window = args.integer("window");
  s.heads = args.integer("heads");
  s.kv_heads = args.integer("kv_heads");
  s.scale = static_cast<float>(args.real("scale"));
  args.require(s.window >= 0, "window", "must not be negative");
  args.require(s.heads > 0 && s.kv_heads > 0 && s.heads % s.kv_heads == 0, "heads",
               "must be a multiple of kv_heads");
  if (!args.ok()) return;
  s.tokens = in.q.rows;
  // Without values to read it is as full as it can be, which takes most.
  s.past = DryRun::current() == nullptr ? positions[0] : keys.rows - s.tokens;
  s.head_size = in.q.columns / s.heads;
  const int64_t columns = s.kv_heads * s.head_size;
  args.require(s.head_size * s.heads == in.q.columns, "q", "must have a multiple of heads columns");
  for (const Rows& x : {in.k, in.v}) {
    args.require(x.rows == s.tokens && x.columns == columns, "k, v",
                 "must be [T, kv_heads * head size]");
  }
  for (const Rows& x : {keys, values}) {
    args.require(x.columns == columns && s.past >= 0 && s.past + s.tokens <= x.rows, "keys, values",
                 "must be [C, kv_heads * head size] with room for all positions");
  }
  float* out = args.out_like("out", in.q, in.q.columns);
  if (!args.ok()) return;
  kernels().attention_cached(s, in.q.data, in.k.data, in.v.data, keys.data, values.data, out);
}

TOOLKIT_OPERATOR(attention_backward) {
  const Rows grad = args.rows("grad");
  const AttentionInputs in(args);
  const AttentionShape s = in.shape(args);
  const AttentionGradients out(args, grad, in);
  if (!args.ok()) return;
  kernels().attention_backward(s, grad.data, in.q.data, in.k.data, in.v.data, out.dq, out.dk,
                               out.dv);
}

}  // namespace toolkit
