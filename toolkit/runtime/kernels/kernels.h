// The operators' arithmetic, without ExecuTorch: plain pointers in, plain pointers out.
//
// An operator decides what is worked on by which thread, in which tiles and with which scratch, and
// leaves the arithmetic to the primitives of an instruction set (primitives.h). All activations are
// fp32, row-major and contiguous. T tokens, D model, F feed-forward, H heads, K kv-heads, R rank, V
// vocabulary. Outputs are overwritten (`=`), never added to.
#pragma once

#include <cstdint>

namespace toolkit {

/// A quantized weight W [rows, depth] in panels of 16 rows, groups of 32 along the depth.
/// int4: codes uint8 [rows/16, depth, 8], byte j = row j (low nibble) and row j+8 (high nibble).
/// int8: codes int8 [rows/16, depth, 16]. scale and offset: fp16 bits [rows/16, depth/32, 16].
/// Value: with offset scale*code + offset; without, int4 scale*(code-8), int8 scale*code.
struct QuantizedMatrix {
  const uint8_t* codes = nullptr;
  const uint16_t* scale = nullptr;
  const uint16_t* offset = nullptr;  // null: symmetric
  int64_t rows = 0;                  // N, padded to a multiple of 16
  int64_t depth = 0;                 // K
  int bits = 4;

  /// Bytes of codes one panel of 16 rows takes.
  int64_t panel_bytes() const { return depth * 2 * bits; }
};

/// A LoRA pair: a [rank, K], b [N, rank]. Both null: the layer has no adapter.
struct Adapter {
  const float* a = nullptr;
  const float* b = nullptr;
  int64_t rank = 0;
};

/// Where an adapter's gradients go; both null exactly when the adapter is absent.
struct AdapterGradient {
  float* a = nullptr;
  float* b = nullptr;
};

/// Sizes of causal grouped-query attention. Row t attends to keys start[t] <= j <= t; head h uses
/// kv-head h / (heads / kv_heads). Tensors are [tokens, heads or kv_heads, head_size].
struct AttentionShape {
  int64_t tokens = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_size = 0;
  float scale = 1.0f;
  const int32_t* start = nullptr;
  int64_t past = 0;  // keys before the first row's own, in the forward; then row t is key past + t

  int64_t keys() const { return past + tokens; }
};

/// Sizes of attention over a cache: `tokens` rows that follow `past` others and see `window` keys
/// at most, 0 for all.
struct CacheShape {
  int64_t tokens = 0;
  int64_t past = 0;
  int64_t window = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_size = 0;
  float scale = 1.0f;
};

/// What an MLP applies to the gate; gelu by tanh.
enum class Activation { silu, gelu };

/// Elements whose approximate slopes a byte tells (toolkit/ops/approximate.py).
constexpr int64_t kCodesPerByte = 4;

/// The three weights of a gated MLP: gate, up [F, D], down [D, F], each with an optional adapter.
struct Mlp {
  QuantizedMatrix gate, up, down;
  Adapter gate_lora, up_lora, down_lora;
  float scaling = 0.0f;
  Activation activation = Activation::silu;
  bool fused = false;  // gate and up are halves of one layer, with one A
};

/// Gate and up have one A where they are halves of one layer; its gradient is their sum.
struct MlpGradient {
  AdapterGradient gate, up, down;
};

/// Sequences that are computed together at most.
constexpr int64_t kMostTogether = 8;

/// One of several sequences of a linear layer, all with adapters of one rank or all with none.
struct LinearSequence {
  const float* x = nullptr;
  Adapter lora;
  float* y = nullptr;
  float* h = nullptr;  // x aᵀ, written when given
};

/// One of several sequences of an MLP; only adapters differ.
struct MlpSequence {
  const float* x = nullptr;
  Mlp weights;
  float* y = nullptr;
};

/// Sizes of the rotation of q and k, heads of `head_size` whose first `rotated` features turn.
struct RopeShape {
  int64_t tokens = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_size = 0;
  int64_t rotated = 0;
  const int32_t* positions = nullptr;
  const float* inv_freq = nullptr;  // [rotated / 2]
  float attention_scaling = 1.0f;
};

/// A stream of normal numbers, one for every counter and key (isa/normal.cc).
struct NormalStream {
  uint32_t key[2];
  uint32_t counter[3];
};

// clang-format off
/// X(name, parameters): all operators.
#define TOOLKIT_OPERATORS(X)                                                                       \
  /* y = x Wᵀ + bias + scaling (x aᵀ) bᵀ; bias may be null, the adapter absent; h [T, R] = x aᵀ is \
     written when given. */                                                                        \
  X(linear, (const float* x, int64_t tokens, const QuantizedMatrix& w, const float* bias,          \
             const Adapter& lora, float scaling, float* y, float* h))                              \
  /* The same for `count` sequences of as many tokens, whose weights are unpacked once. Each is     \
     computed to the bit as it would be alone. */                                                  \
  X(linear_together, (const LinearSequence* sequences, int64_t count, int64_t tokens,              \
                      const QuantizedMatrix& w, const float* bias, float scaling))                 \
  /* dx = g W + scaling (g b) a; da = scaling (g b)ᵀ x; db = scaling gᵀ h. h is recomputed when    \
     null. */                                                                                      \
  X(linear_backward, (const float* grad, const float* x, const float* h, int64_t tokens,           \
                      const QuantizedMatrix& w, const Adapter& lora, float scaling, float* dx,     \
                      const AdapterGradient& gradient))                                            \
  /* y = x * rstd * weight, rstd = 1/sqrt(mean(x²) + eps); rstd [T] is written when given. */      \
  X(rms_norm, (const float* x, const float* weight, int64_t tokens, int64_t size, float eps,       \
               float* y, float* rstd))                                                             \
  /* dx = rstd (g w - x rstd² mean(g w x)); rstd is recomputed when null. */                       \
  X(rms_norm_backward, (const float* grad, const float* x, const float* weight, const float* rstd, \
                        int64_t tokens, int64_t size, float eps, float* dx))                       \
  /* Rotates the halves (i, i + size/2) of every head by positions[t] * inv_freq[i]; inverse       \
     transposes. */                                                                                \
  X(rope, (const float* x, const int32_t* positions, const float* inv_freq, int64_t tokens,        \
           int64_t heads, int64_t head_size, float attention_scaling, bool inverse, float* y))     \
  /* q and k turned, and v, from the columns of qkv in this order; and the gradient. */            \
  X(split_rope, (const RopeShape& shape, const float* qkv, float* q, float* k, float* v))          \
  X(split_rope_backward, (const RopeShape& shape, const float* dq, const float* dk,                \
                          const float* dv, float* dqkv))                                           \
  /* out[t] = max(start[t], t - window + 1). */                                                    \
  X(window_start, (const int32_t* start, int64_t tokens, int64_t window, int32_t* out))            \
  /* out = softmax(scale q kᵀ) v. */                                                               \
  X(attention, (const AttentionShape& shape, const float* q, const float* k, const float* v,       \
                float* out))                                                                       \
  X(attention_backward, (const AttentionShape& shape, const float* grad, const float* q,           \
                         const float* k, const float* v, float* dq, float* dk, float* dv))         \
  /* The same where keys and values of `past` tokens are in a cache, and k and v, which may be the  \
     cache's next rows, are those of the rows themselves. */                                       \
  X(attention_cached, (const CacheShape& shape, const float* q, const float* k, const float* v,    \
                       const float* keys, const float* values, float* out))                        \
  /* The same with the probabilities [H, T, T] kept (zero where masked). */                        \
  X(attention_saved, (const AttentionShape& shape, const float* q, const float* k, const float* v, \
                      float* out, float* probs))                                                   \
  X(attention_saved_backward, (const AttentionShape& shape, const float* grad, const float* q,     \
                               const float* k, const float* v, const float* probs, float* dq,      \
                               float* dk, float* dv))                                              \
  /* y = (act(G) * U) Wdᵀ with G, U = x Wgᵀ, x Wuᵀ, LoRA on all three; no T x F buffer. */         \
  X(mlp, (const float* x, int64_t tokens, const Mlp& weights, float* y))                           \
  /* The same as linear_together does it. */                                                       \
  X(mlp_together, (const MlpSequence* sequences, int64_t count, int64_t tokens))                   \
  X(mlp_backward, (const float* grad, const float* x, int64_t tokens, const Mlp& weights,          \
                   float* dx, const MlpGradient& gradient))                                        \
  /* out = silu(gate) * up, and its gradient. */                                                   \
  X(silu_mul, (const float* gate, const float* up, int64_t count, float* out))                     \
  X(silu_mul_backward, (const float* grad, const float* gate, const float* up, int64_t count,      \
                        float* dgate, float* dup))                                                 \
  /* The same with gelu by tanh. */                                                                \
  X(gelu_mul, (const float* gate, const float* up, int64_t count, float* out))                     \
  X(gelu_mul_backward, (const float* grad, const float* gate, const float* up, int64_t count,      \
                        float* dgate, float* dup))                                                 \
  /* The first with gate and up side by side: gate_up [T, 2 size]. */                               \
  X(swiglu, (const float* gate_up, int64_t tokens, int64_t size, float* out))                      \
  X(swiglu_backward, (const float* grad, const float* gate_up, int64_t tokens, int64_t size,       \
                      float* out))                                                                 \
  /* out[t] = W[tokens[t]]; tokens must be in range. */                                            \
  X(embedding, (const int32_t* tokens, int64_t count, const QuantizedMatrix& w, float* out))       \
  /* Sum over labels >= 0 of -log softmax(x Wᵀ)[label] over `vocab` classes; dx, unless null, is   \
     its gradient. */                                                                              \
  X(cross_entropy, (const float* x, const int32_t* labels, int64_t tokens,                         \
                    const QuantizedMatrix& w, int64_t vocab, float* loss, float* dx))              \
  /* plus, minus = values +- scale z, z the stream's first elements; values whose magnitude is     \
     above `most` stay as they are. */                                                             \
  X(perturb, (const float* values, const NormalStream& stream, int64_t count, float scale,         \
              float most, float* plus, float* minus))                                              \
  /* values = values keep + factor z, but for those whose magnitude is above `most`. */            \
  X(add_normals, (float* values, const NormalStream& stream, int64_t count, float keep,            \
                  float factor, float most))                                                       \
  X(add, (const float* a, const float* b, int64_t count, float* out))                              \
  /* y = x rstd, rstd [T] = 1/sqrt(mean(x²) + eps), and dx = rstd (g - y mean(g y)). */            \
  X(normalize, (const float* x, int64_t tokens, int64_t size, float eps, float* y, float* rstd))   \
  X(normalize_backward, (const float* grad, const float* y, const float* rstd, int64_t tokens,     \
                         int64_t size, float* dx))                                                 \
  /* y = act(x); codes [T, size / 4, rounded up]: two bits for every element's slope. */           \
  X(coded_activation, (Activation activation, const float* x, int64_t tokens, int64_t size,        \
                       float* y, uint8_t* codes))                                                  \
  X(coded_activation_backward, (Activation activation, const float* grad, const uint8_t* codes,    \
                                int64_t tokens, int64_t size, float* out))                         \
  X(multiply_elements, (const float* a, const float* b, int64_t count, float* out))                \
  /* out = weight [size] times every row of x. */                                                  \
  X(scale_features, (const float* x, const float* weight, int64_t tokens, int64_t size,            \
                     float* out))                                                                  \
  /* The halves of rows of 2 size, and rows of two halves. */                                      \
  X(halves, (const float* x, int64_t tokens, int64_t size, float* first, float* second))           \
  X(joined, (const float* first, const float* second, int64_t tokens, int64_t size, float* out))   \
  X(scale, (const float* x, float factor, int64_t count, float* out))
// clang-format on

struct Tiles;
struct Arithmetic;
struct Primitives;
struct RowProducts;

/// The operators on the primitives of one instruction set.
class Kernels {
 public:
  /// `arithmetic`: of the products with quantized weights; `few_rows`: the same of a few rows.
  Kernels(const char* isa, const Primitives& primitives, const Arithmetic& arithmetic,
          const RowProducts& few_rows);

  const char* const isa;
  const Tiles& tiles;
  const Primitives& rows;
  const Arithmetic& arithmetic;
  const Arithmetic& float32;  // of all other products
  const RowProducts& few_rows;

  /// How often cross_entropy goes through W for so many tokens.
  int64_t head_sweeps(int64_t tokens) const;
#define TOOLKIT_METHOD(name, parameters) void name parameters const;
  TOOLKIT_OPERATORS(TOOLKIT_METHOD)
#undef TOOLKIT_METHOD
};

/// What the operands of products with quantized weights are rounded to, the default first.
constexpr const char* kArithmetics[] = {"float32", "fixed16"};

/// Those of the best instruction set this processor has, or of the one TOOLKIT_ISA names (one of
/// tiles.h), in the arithmetic that was selected. Throws UsageError for an unknown or unavailable
/// name. In a dry run those of the run.
const Kernels& kernels();

/// Has `kernels()` throw Error with this message, a literal, from now on.
void refuse_kernels(const char* why);

/// Switches to a named instruction set; false, and no change, when this processor lacks it. Not
/// while an operator runs.
bool select_isa(const char* isa);

/// Switches to a named arithmetic; false, and no change, when none has this name. Not while an
/// operator runs.
bool select_arithmetic(const char* arithmetic);

/// The operators of a named instruction set and arithmetic; null when it is not compiled in, this
/// processor lacks it, or none has this name.
const Kernels* kernels_for(const char* isa, const char* arithmetic = kArithmetics[0]);

}  // namespace toolkit
