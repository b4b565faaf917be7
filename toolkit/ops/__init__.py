"""The operators a training program is made of; importing this package registers all of them.

Every operator exists four times: its schema and eager reference here (the reference is the CPU
implementation and the oracle of the kernels; it computes in the dtype of its activations, so
float64 works), a fake kernel for tracing, an `.out` variant that ExecuTorch programs call, and a
C++ kernel in `toolkit/runtime/operators`. Operators know no model.

Dimension letters: T tokens, D model, F feed-forward, H heads, K key-value heads (or the input
features of a linear layer), N output features, R rank, V vocabulary. Activations are float32 and
contiguous; hidden tensors have the shape [1, T, D]. A quantized weight is three arguments, `codes,
scale, offset`, in the form described in `toolkit.quantization.packing`. Base weights are frozen:
asking for their gradient is an error.
"""

from toolkit.ops import (  # noqa: F401  imported for their registrations
    approximate,
    attention,
    cached_attention,
    cross_entropy,
    elementwise,
    embedding,
    linear,
    mlp,
    norm,
    rope,
    saved,
)
from toolkit.ops.library import OPERATORS, Operator

__all__ = ["OPERATORS", "Operator"]
