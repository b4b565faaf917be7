"""What llama.cpp calls a model's parameters, and in which order it stores their rows."""

import gguf
import torch
from torch import Tensor
from transformers import PretrainedConfig

from toolkit.bundle.layout import parameter_shapes
from toolkit.families import FAMILIES


def stored_names(config: PretrainedConfig) -> dict[str, str]:
    """Return what the gguf package calls every parameter, by its name in `transformers`."""
    architecture = FAMILIES[config.model_type].gguf_architecture
    by_name = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(by_name[architecture], config.num_hidden_layers)
    own = [name.rpartition(".")[0] for name in parameter_shapes(config)]
    # A bias that the model lacks has a name too, to be refused by.
    return {
        f"{name}{kind}": names.get_name(f"{name}{kind}", try_suffixes=(kind,)) or ""
        for name in dict.fromkeys(own)
        for kind in (".weight", ".bias")
    }


def row_order(config: PretrainedConfig, name: str, n: int) -> Tensor | None:
    """Return for each of a parameter's n rows where a file has it, None where in the same place.

    llama.cpp stores the rows of q and k of some families so that rotated pairs are neighbours.
    """
    if not FAMILIES[config.model_type].gguf.pairs_rotated:
        return None
    heads = {
        "q_proj": config.num_attention_heads,
        "k_proj": config.num_key_value_heads,
    }.get(name.rsplit(".", 2)[-2])
    if heads is None:
        return None
    return torch.arange(n).reshape(heads, n // heads // 2, 2).transpose(1, 2).reshape(n)
