"""What llama.cpp calls a model's parameters, and in which order it stores their rows."""

from pathlib import Path

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


def read_by_transformers(file: Path) -> bool:
    """Whether `transformers` computes with a file of a supported family what llama.cpp does.

    It does not know some architectures, and it leaves factors of frequencies unread.
    """
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    reader = gguf.GGUFReader(file)
    architecture = reader.get_field(gguf.Keys.General.ARCHITECTURE)
    known = architecture is not None and architecture.contents() in GGUF_SUPPORTED_ARCHITECTURES
    return known and not any(tensor.name.startswith("rope_") for tensor in reader.tensors)


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
