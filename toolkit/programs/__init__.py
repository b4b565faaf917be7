"""ExecuTorch programs of a model: every block of a kind shares one forward and one backward.

Methods, one of each for every sequence length T: `embed_t{T}`, `block_forward_t{T}`,
`block_backward_t{T}`, `head_loss_t{T}`, `head_backward_t{T}`. Weights and adapters are inputs.
The constant methods `{kind}_inputs` and `{kind}_outputs` name them in binding order:

    tokens int32 [1, T]      labels int32 [1, T]       positions, start int32 [T]
    hidden float32 [1,T,D]   grad float32 [1, T, D]    grad_scale, loss float32 []
    base:KEY       tensor of base.ptd; `{layer}` in KEY stands for the layer's number
    adapter:KEY    tensor of adapter.ptd
    gradient:KEY   output: gradient of that adapter tensor
"""

from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from toolkit import BUNDLE_FORMAT_VERSION
from toolkit.errors import ToolkitError
from toolkit.programs.block import Binding, Block
from toolkit.programs.ends import Embedding, Head
from toolkit.programs.families import FAMILIES, PROJECTIONS, family_of, head_dimension
from toolkit.programs.lower import Function, MethodReport, lower
from toolkit.programs.modules import Lora
from toolkit.programs.rope import rope_parameters
from toolkit.quantization.layout import weight_layout

LOWERINGS = ("mesp", "mebp")

__all__ = [
    "FAMILIES",
    "LOWERINGS",
    "PROJECTIONS",
    "Binding",
    "Lora",
    "Programs",
    "build_programs",
    "family_of",
    "head_dimension",
    "program_functions",
    "rope_parameters",
]


@dataclass(frozen=True)
class Programs:
    """A lowered model: the bytes of programs.pte and a report for each method."""

    buffer: bytes
    methods: dict[str, MethodReport]


def program_functions(
    config: PretrainedConfig, *, seq_len: int, lora: Lora, lowering: str, schemes: dict[str, str]
) -> list[Function]:
    """Return the five functions for one sequence length, not yet traced.

    Args:
        config: Configuration of a supported family.
        seq_len: T.
        lora: Rank, alpha and targets.
        lowering: "mesp" or "mebp".
        schemes: Quantization scheme of "linear", "embedding" and "head".
    """
    if lowering not in LOWERINGS:
        raise ToolkitError(
            f"Lowering '{lowering}' is unknown", f"Choose from {', '.join(LOWERINGS)}"
        )
    unknown = sorted(set(lora.targets) - set(PROJECTIONS))
    if unknown or not lora.targets:
        raise ToolkitError(
            f"LoRA targets {', '.join(unknown) or '(none)'} do not exist",
            f"Choose from {', '.join(PROJECTIONS)}",
        )
    if config.tie_word_embeddings and schemes["head"] != schemes["embedding"]:
        raise ToolkitError(
            "The head is tied to the embedding but has another quantization scheme",
            "Give both the same scheme",
        )
    block = Block(config, weight_layout(schemes["linear"]), lora, lowering)
    embedding = Embedding(config, weight_layout(schemes["embedding"]))
    head = Head(config, weight_layout(schemes["head"]))

    tokens = Binding("tokens", (1, seq_len), torch.int32)
    labels = Binding("labels", (1, seq_len), torch.int32)
    hidden = Binding("hidden", (1, seq_len, config.hidden_size), torch.float32)
    grad = Binding("grad", hidden.shape, torch.float32)
    where = [Binding(name, (seq_len,), torch.int32) for name in ("positions", "start")]
    loss = Binding("loss", (), torch.float32)
    grad_scale = Binding("grad_scale", (), torch.float32)
    weights = block.weight_bindings()
    return [
        Function("embed", embedding.forward, [tokens, *embedding.bindings], [hidden]),
        Function("block_forward", block.forward, [hidden, *where, *weights], [hidden]),
        Function(
            "block_backward",
            block.backward,
            [hidden, grad, *where, *weights],
            [grad, *block.gradient_bindings()],
        ),
        Function("head_loss", head.loss, [hidden, labels, *head.bindings], [loss]),
        Function(
            "head_backward",
            head.backward,
            [hidden, labels, grad_scale, *head.bindings],
            [loss, grad],
        ),
    ]


def build_programs(
    config: PretrainedConfig,
    *,
    seq_lens: list[int],
    rank: int,
    alpha: float,
    targets: tuple[str, ...],
    lowering: str,
    schemes: dict[str, str],
    model_name: str,
) -> Programs:
    """Lower a model's training and evaluation programs for every sequence length.

    Raises:
        ToolkitError: A family, feature, target or lowering that is not supported.
    """
    lora = Lora(rank, alpha, tuple(targets))
    lowered: list[Function] = []
    constants: dict[str, object] = {
        "format_version": BUNDLE_FORMAT_VERSION,
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "vocab_size": config.vocab_size,
        "lora_rank": rank,
        "lora_alpha": float(alpha),
        "seq_lens": list(seq_lens),
        "lowering": lowering,
        "model_name": model_name,
    }
    for seq_len in seq_lens:
        for function in program_functions(
            config, seq_len=seq_len, lora=lora, lowering=lowering, schemes=schemes
        ):
            constants[f"{function.name}_inputs"] = [binding.name for binding in function.inputs]
            constants[f"{function.name}_outputs"] = [binding.name for binding in function.outputs]
            name = f"{function.name}_t{seq_len}"
            lowered.append(Function(name, function.call, function.inputs, function.outputs))
    return Programs(*lower(lowered, constants))
