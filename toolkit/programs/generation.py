"""The programs that generate: for up to `PART` tokens, of a cache as long as the model's context.

`embed_step` and `{KIND}_step` take any number of tokens up to that, and caches and adapters of any
length and rank up to what is exported: a prompt goes through them in parts, a reply token by token,
and an adapter of rank 0 is none. `head_logits` is for one token. Beside what `toolkit.programs`
names, they have

    keys, values  float32 [C, K*d]: the cache of a layer
    k, v          output: what the tokens put into it, [1, T, K*d]
    logits        output: [1, 1, V], V with the rows that pad the weight

The constants `context` (C), `part_tokens` and `rope_original` (tokens from which on a model turns
by the second row of its frequencies, 0 where there is one) say what a runtime needs to know.
"""

import torch
from transformers import PretrainedConfig

from toolkit.families import family_of
from toolkit.lora import LoraSettings
from toolkit.programs.block import Binding, Block, Function
from toolkit.programs.ends import Embedding, Head
from toolkit.programs.kinds import program_kinds
from toolkit.quantization.layout import weight_layout
from toolkit.quantization.packing import PANEL

PART = 256
"""Tokens of the longest part of a prompt: enough to repay the unpacking of a weight."""


def generation_functions(
    config: PretrainedConfig, lora: LoraSettings, schemes: dict[str, str]
) -> list[Function]:
    """Return the functions, not yet traced, with the largest shapes that they take.

    Raises:
        ToolkitError: A family, feature or target that is not supported.
    """
    context = int(config.max_position_embeddings)
    part = min(PART, context)
    tokens = Binding("tokens", (1, part), torch.int32)
    positions = Binding("positions", (part,), torch.int32)
    hidden = Binding("hidden", (1, part, config.hidden_size), torch.float32)
    embedding = Embedding(config, weight_layout(schemes["embedding"]))
    functions = [Function("embed_step", embedding.forward, [tokens, *embedding.bindings], [hidden])]
    for kind in program_kinds(config, lora):
        block = Block(config, kind.block, weight_layout(schemes["linear"]), kind.lora, "mesp")
        functions.append(block.step_function(hidden, positions, context))
    head = Head(config, weight_layout(schemes["head"]))
    last = Binding("hidden", (1, 1, config.hidden_size), torch.float32)
    padded = head.bindings[1].shape[0] * PANEL
    logits = Binding("logits", (1, 1, padded), torch.float32)
    return [*functions, Function("head_logits", head.logits, [last, *head.bindings], [logits])]


def generation_constants(config: PretrainedConfig) -> dict[str, object]:
    """Return what the constant methods say to whoever runs the functions."""
    ropes = family_of(config).ropes(config).values()
    context = int(config.max_position_embeddings)
    return {
        "context": context,
        "part_tokens": min(PART, context),
        "rope_original": max((rope.original for rope in ropes), default=0),
    }
