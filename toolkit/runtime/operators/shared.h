// What an operator shares with its variant for the lowering mebp (saved_operators.cc).
#pragma once

#include "operators/register.h"

namespace toolkit {

/// The weight of a norm over every `columns` features, of which each row has one group or several.
struct NormWeight {
  const float* data = nullptr;
  int64_t columns = 1, groups = 1;
};

NormWeight norm_weight(Arguments& args, const Rows& rows);

/// The arguments of a linear layer with an adapter.
struct LoraLinear {
  Rows x;
  QuantizedMatrix w;
  const float* bias;
  Adapter lora;
  float scaling;

  LoraLinear(Arguments& args, Rank rank);
};

/// The backward of one, whose first arguments were read already. `h`, x times the adapter's A, is
/// computed where it is empty.
void lora_linear_backward(Arguments& args, const Rows& grad, const Rows& x, const Rows& h);

/// q, k and v; they are checked once heads and kv_heads, which follow them, are known.
struct AttentionInputs {
  Rows q, k, v;

  explicit AttentionInputs(Arguments& args);

  /// Reads the arguments that follow.
  AttentionShape shape(Arguments& args) const;
};

struct AttentionGradients {
  float *dq, *dk, *dv;

  AttentionGradients(Arguments& args, const Rows& grad, const AttentionInputs& in);
};

}  // namespace toolkit
