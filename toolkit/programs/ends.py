"""What stands before the first block and after the last: embedding and loss head."""

import torch
from torch import Tensor
from transformers import PretrainedConfig

from toolkit.families import family_of
from toolkit.ops.cross_entropy import linear_cross_entropy, linear_cross_entropy_loss
from toolkit.ops.elementwise import scale
from toolkit.ops.embedding import quantized_embedding
from toolkit.ops.linear import quantized_linear
from toolkit.ops.norm import rms_norm
from toolkit.programs.block import Binding, scalar_binding
from toolkit.quantization.layout import WeightLayout


class Embedding:
    """Token embedding from the quantized table, times the family's multiplier where it has one."""

    def __init__(self, config: PretrainedConfig, layout: WeightLayout) -> None:
        tensors = layout.tensors(config.vocab_size, config.hidden_size)
        self.bindings = [
            Binding(f"base:embed_tokens.{name}", shape, dtype)
            for name, (shape, dtype) in tensors.items()
        ]
        self.multiplied = _add_scalar(self.bindings, family_of(config).embedding_multiplier(config))

    def forward(self, tokens: Tensor, *weight: Tensor) -> Tensor:
        """Return the hidden states, float32 [1, T, D], of tokens, int32 [1, T]."""
        if not self.multiplied:
            return quantized_embedding(tokens, *_triple(weight))
        return scale(quantized_embedding(tokens, *_triple(weight[:-1])), weight[-1])


class Head:
    """Final norm, language-model head and cross-entropy; training never materializes logits."""

    def __init__(self, config: PretrainedConfig, layout: WeightLayout) -> None:
        self.vocab = config.vocab_size
        self.eps = config.rms_norm_eps
        key = "embed_tokens" if config.tie_word_embeddings else "lm_head"
        tensors = layout.tensors(config.vocab_size, config.hidden_size)
        self.bindings = [Binding("base:norm.weight", (config.hidden_size,), torch.float32)] + [
            Binding(f"base:{key}.{name}", shape, dtype) for name, (shape, dtype) in tensors.items()
        ]
        self.multiplied = _add_scalar(self.bindings, 1 / family_of(config).logits_divisor(config))

    def loss(self, hidden: Tensor, labels: Tensor, *weights: Tensor) -> Tensor:
        """Return the sum of the labelled tokens' losses, float32 []."""
        normed, weight = self._normed(hidden, weights)
        return linear_cross_entropy_loss(normed, labels, *_triple(weight), self.vocab)

    def logits(self, hidden: Tensor, *weights: Tensor) -> Tensor:
        """Return float32 [1, T, V], V with the rows that pad the weight."""
        normed, weight = self._normed(hidden, weights)
        return quantized_linear(normed, *_triple(weight), None)

    def backward(
        self, hidden: Tensor, labels: Tensor, grad_scale: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of losses and the gradient of `hidden` for `grad_scale` times that sum."""
        with torch.enable_grad():
            leaf = hidden.detach().requires_grad_()
            normed, weight = self._normed(leaf, weights)
            loss, _ = linear_cross_entropy(normed, labels, *_triple(weight), self.vocab)
            (grad,) = torch.autograd.grad(loss, leaf, grad_scale)
        return loss, grad

    def _normed(
        self, hidden: Tensor, weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return what the head multiplies, and the head's own weight."""
        norm, *weight = weights
        normed = rms_norm(hidden, norm, self.eps)
        if self.multiplied:
            normed = scale(normed, weight.pop())
        return normed, tuple(weight)


def _add_scalar(bindings: list[Binding], value: float) -> bool:
    """Add an input for a factor that changes anything; return whether it does."""
    if value != 1:
        bindings.append(scalar_binding(value))
    return value != 1


def _triple(weight: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor | None]:
    codes, scales, *offset = weight
    return codes, scales, offset[0] if offset else None
