"""What stands before the first block and after the last: embedding and loss head."""

import torch
from torch import Tensor
from transformers import PretrainedConfig

import toolkit.ops  # noqa: F401  registers the operators
from toolkit.programs.block import Binding
from toolkit.quantization.layout import WeightLayout

_ops = torch.ops.toolkit


class Embedding:
    """Token embedding from the quantized table."""

    def __init__(self, config: PretrainedConfig, layout: WeightLayout) -> None:
        tensors = layout.tensors(config.vocab_size, config.hidden_size)
        self.bindings = [
            Binding(f"base:embed_tokens.{name}", shape, dtype)
            for name, (shape, dtype) in tensors.items()
        ]

    def forward(self, tokens: Tensor, *weight: Tensor) -> Tensor:
        """Return the hidden states, float32 [1, T, D], of tokens, int32 [1, T]."""
        return _ops.quantized_embedding(tokens, *_triple(weight))


class Head:
    """Final norm, language-model head and cross-entropy; logits are never materialized."""

    def __init__(self, config: PretrainedConfig, layout: WeightLayout) -> None:
        self.vocab = config.vocab_size
        self.eps = config.rms_norm_eps
        key = "embed_tokens" if config.tie_word_embeddings else "lm_head"
        tensors = layout.tensors(config.vocab_size, config.hidden_size)
        self.bindings = [Binding("base:norm.weight", (config.hidden_size,), torch.float32)] + [
            Binding(f"base:{key}.{name}", shape, dtype) for name, (shape, dtype) in tensors.items()
        ]

    def loss(self, hidden: Tensor, labels: Tensor, norm: Tensor, *weight: Tensor) -> Tensor:
        """Return the sum of the labelled tokens' losses, float32 []."""
        normed = _ops.rms_norm(hidden, norm, self.eps)
        return _ops.linear_cross_entropy_loss(normed, labels, *_triple(weight), self.vocab)

    def backward(
        self, hidden: Tensor, labels: Tensor, grad_scale: Tensor, norm: Tensor, *weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of losses and the gradient of `hidden` for `grad_scale` times that sum."""
        with torch.enable_grad():
            leaf = hidden.detach().requires_grad_()
            normed = _ops.rms_norm(leaf, norm, self.eps)
            loss, _ = _ops.linear_cross_entropy(normed, labels, *_triple(weight), self.vocab)
            (grad,) = torch.autograd.grad(loss, leaf, grad_scale)
        return loss, grad


def _triple(weight: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor | None]:
    codes, scale, *offset = weight
    return codes, scale, offset[0] if offset else None
