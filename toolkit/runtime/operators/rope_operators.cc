// split_rope with its gradient, and window_start.
#include "operators/register.h"

namespace toolkit {
namespace {

// What split_rope and its gradient have behind their tensors, `columns` wide in all.
RopeShape read_rope(Arguments& args, int64_t tokens, int64_t columns) {
  RopeShape s;
  s.tokens = tokens;
  s.positions = args.ints("positions", tokens);
  const Rows frequencies = args.rows("inv_freq");
  s.attention_scaling = static_cast<float>(args.real("attention_scaling"));
  const int64_t original = args.integer("original");
  s.heads = args.integer("heads");
  s.kv_heads = args.integer("kv_heads");
  args.require(frequencies.rows == 1 || frequencies.rows == 2, "inv_freq", "must have 1 or 2 rows");
  args.require(0 < s.heads && s.heads <= columns && 0 < s.kv_heads && s.kv_heads <= columns,
               "heads", "must be positive and no more than columns");
  if (!args.ok()) return s;
  s.head_size = columns / (s.heads + 2 * s.kv_heads);
  s.rotated = 2 * frequencies.columns;
  args.require(s.head_size * (s.heads + 2 * s.kv_heads) == columns, "qkv",
               "must have columns for heads and twice kv_heads");
  args.require(s.rotated <= s.head_size, "inv_freq", "must turn no more than a head");
  bool is_long = false;
  for (int64_t t = 0; t < tokens; ++t) is_long = is_long || s.positions[t] >= original;
  s.inv_freq = frequencies.data;
  if (is_long && frequencies.rows == 2) s.inv_freq += frequencies.columns;
  return s;
}

}  // namespace

TOOLKIT_OPERATOR(split_rope) {
  const Rows qkv = args.rows("qkv");
  const RopeShape s = read_rope(args, qkv.rows, qkv.columns);
  float* q = args.out_like("q", qkv, s.heads * s.head_size);
  float* k = args.out_like("k", qkv, s.kv_heads * s.head_size);
  float* v = args.out_like("v", qkv, s.kv_heads * s.head_size);
  if (args.ok()) kernels().split_rope(s, qkv.data, q, k, v);
}

TOOLKIT_OPERATOR(split_rope_backward) {
  const Rows dq = args.rows("dq");
  const Rows dk = args.rows("dk");
  const float* dv = args.rows("dv", dq.rows, dk.columns);
  const int64_t columns = dq.columns + 2 * dk.columns;
  const RopeShape s = read_rope(args, dq.rows, columns);
  args.require(dk.rows == dq.rows && dk.columns == s.kv_heads * s.head_size, "dk",
               "must be [T, kv_heads * head size]");
  float* dqkv = args.out_like("out", dq, columns);
  if (args.ok()) kernels().split_rope_backward(s, dq.data, dk.data, dv, dqkv);
}

TOOLKIT_OPERATOR(window_start) {
  const Tensor* start = args.int_tensor("start");
  const int64_t window = args.integer("window");
  args.require(window > 0, "window", "must be positive");
  if (!args.ok()) return;
  const int64_t tokens = start->numel();
  int32_t* out = args.out_ints("out", tokens);
  if (args.ok()) kernels().window_start(start->const_data_ptr<int32_t>(), tokens, window, out);
}

}  // namespace toolkit
