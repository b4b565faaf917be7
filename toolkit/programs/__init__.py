"""ExecuTorch programs of a model: every block of a kind shares one forward and one backward.

Methods, one of each for every sequence length T: `embed_t{T}`, `{KIND}_forward_t{T}` and
`{KIND}_backward_t{T}` for every kind of block (`block` where a model has one kind),
`head_loss_t{T}`, `head_backward_t{T}`. Kinds of layers without adapters end with `_frozen`; one
that comes only below the lowest adapter has no backward. The constant method `block_kinds` names
the kinds, `layer_kinds` has a digit for every layer, the number of its kind. Weights and adapters
are inputs; the constants `{method}_inputs` and `{method}_outputs` name them in binding order:

    tokens int32 [1, T]      labels int32 [1, T]       positions, start int32 [T]
    hidden float32 [1,T,D]   grad float32 [1, T, D]    grad_scale, loss float32 []
    base:KEY       tensor of base.ptd; `{layer}` in KEY stands for the layer's number
    adapter:KEY    tensor of adapter.ptd
    scalar:NUMBER  float32 [], the number
    gradient:KEY   output: gradient of that adapter tensor

What generates, `embed_step`, `{KIND}_step` and `head_logits`, is in `toolkit.programs.generation`.
"""

from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from toolkit import BUNDLE_FORMAT_VERSION
from toolkit.choices import LOWERINGS
from toolkit.errors import ToolkitError
from toolkit.families import BlockKind
from toolkit.lora import LoraSettings
from toolkit.programs.block import Binding, Block, Function
from toolkit.programs.ends import Embedding, Head
from toolkit.programs.generation import generation_constants, generation_functions
from toolkit.programs.kinds import program_kinds
from toolkit.programs.lower import MethodReport, lower
from toolkit.quantization.layout import weight_layout

__all__ = [
    "Binding",
    "Function",
    "Programs",
    "build_programs",
    "program_functions",
]


@dataclass(frozen=True)
class Programs:
    """A lowered model: the bytes of programs.pte and a report for each method."""

    buffer: bytes
    methods: dict[str, MethodReport]


def program_functions(
    config: PretrainedConfig,
    *,
    seq_len: int,
    lora: LoraSettings,
    lowering: str,
    schemes: dict[str, str],
) -> list[Function]:
    """Return the functions for one sequence length, not yet traced.

    Args:
        config: Configuration of a supported family.
        seq_len: T.
        lora: The adapter.
        lowering: One of `toolkit.choices.LOWERINGS`.
        schemes: Quantization scheme of "linear", "embedding" and "head".

    Raises:
        ToolkitError: A family, feature, target or lowering that is not supported.
    """
    if lowering not in LOWERINGS:
        raise ToolkitError(
            f"Lowering '{lowering}' is unknown", f"Choose from {', '.join(LOWERINGS)}"
        )
    if config.tie_word_embeddings and schemes["head"] != schemes["embedding"]:
        raise ToolkitError(
            "The head is tied to the embedding but has another quantization scheme",
            "Give both the same scheme",
        )
    tokens = Binding("tokens", (1, seq_len), torch.int32)
    labels = Binding("labels", (1, seq_len), torch.int32)
    hidden = Binding("hidden", (1, seq_len, config.hidden_size), torch.float32)
    grad = Binding("grad", hidden.shape, torch.float32)
    where = [Binding(name, (seq_len,), torch.int32) for name in ("positions", "start")]
    loss = Binding("loss", (), torch.float32)
    grad_scale = Binding("grad_scale", (), torch.float32)

    embedding = Embedding(config, weight_layout(schemes["embedding"]))
    functions = [Function("embed", embedding.forward, [tokens, *embedding.bindings], [hidden])]
    kinds = program_kinds(config, lora)
    if lowering == "ms-bp" and not any(kind.block.feeding for kind in kinds):
        raise ToolkitError(
            f"Lowering 'ms-bp' changes nothing in the family '{config.model_type}', whose norms "
            "feed no linear layer",
            "Choose mebp",
        )
    for kind in kinds:
        block = Block(config, kind.block, weight_layout(schemes["linear"]), kind.lora, lowering)
        functions += block.functions(hidden, grad, where, backward=kind.backward)
    head = Head(config, weight_layout(schemes["head"]))
    rows = [hidden, labels]
    return [
        *functions,
        Function("head_loss", head.loss, [*rows, *head.bindings], [loss]),
        Function("head_backward", head.backward, [*rows, grad_scale, *head.bindings], [loss, grad]),
    ]


def _layer_kinds(kinds: list[BlockKind]) -> str:
    """Return a digit for every layer: the place of its kind in `kinds`, of which few exist."""
    places = {layer: place for place, kind in enumerate(kinds) for layer in kind.layers}
    return "".join(str(places[layer]) for layer in range(len(places)))


def build_programs(
    config: PretrainedConfig,
    *,
    seq_lens: list[int],
    lora: LoraSettings,
    lowering: str,
    schemes: dict[str, str],
    model_name: str,
    generation: bool = True,
) -> Programs:
    """Lower a model's programs: to train and evaluate for every sequence length, and to generate.

    Those of `generation` may be left out.

    Raises:
        ToolkitError: A family, feature, target or lowering that is not supported.
    """
    lowered: list[Function] = []
    kinds = [kind.block for kind in program_kinds(config, lora)]
    constants: dict[str, object] = {
        "format_version": BUNDLE_FORMAT_VERSION,
        "layers": config.num_hidden_layers,
        "block_kinds": [kind.name for kind in kinds],
        "layer_kinds": _layer_kinds(kinds),
        "hidden_size": config.hidden_size,
        "vocab_size": config.vocab_size,
        "lora_rank": lora.rank,
        "lora_alpha": float(lora.alpha),
        "seq_lens": list(seq_lens),
        "lowering": lowering,
        "model_name": model_name,
        **generation_constants(config),
    }
    for seq_len in seq_lens:
        for function in program_functions(
            config, seq_len=seq_len, lora=lora, lowering=lowering, schemes=schemes
        ):
            constants |= _names(function)
            name = f"{function.name}_t{seq_len}"
            lowered.append(Function(name, function.call, function.inputs, function.outputs))
    generating = generation_functions(config, lora, schemes) if generation else []
    for function in generating:
        constants |= _names(function)
    names = {function.name for function in generating}
    return Programs(*lower([*lowered, *generating], constants, names))


def _names(function: Function) -> dict[str, object]:
    """Return the constants that name a function's inputs and outputs."""
    return {
        f"{function.name}_inputs": [binding.name for binding in function.inputs],
        f"{function.name}_outputs": [binding.name for binding in function.outputs],
    }
