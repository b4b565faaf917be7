"""How a GGUF file scales rotary positions, of which `transformers` reads nothing.

`rope.scaling.*` names linear and YaRN scaling; both have the same formulas in llama.cpp and in
`transformers`. Llama 3's scaling is a tensor of factors, rope_freqs.
"""

from collections.abc import Collection

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from toolkit.errors import ToolkitError
from toolkit.sources.gguf_metadata import Metadata

# Llama 3.1 scales by 8, Llama 3.2 by 32; the other three numbers are the same in all releases.
_FACTORS = (8.0, 32.0)
_COMMON = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_REMEDY = "Use the model's safetensors files"
_TYPES = ("none", "linear", "yarn")
_READ = {"dimension_count", "freq_base", "scale_linear"} | {
    f"scaling.{name}"
    for name in ("type", "factor", "original_context_length", "finetuned", "yarn_ext_factor")
}
_YARN = {"scaling.yarn_beta_fast": "beta_fast", "scaling.yarn_beta_slow": "beta_slow"}
_NEUTRAL = {
    "scaling.attn_factor": (1.0,),
    "scaling.alpha": (0.0,),
    "scaling.yarn_attn_factor": (1.0,),
    "scaling.yarn_log_multiplier": (0.0,),
}
"""Other keys, and the values at which they do nothing."""
_LONGROPE = ("rope_factors_long.weight", "rope_factors_short.weight")


def rope_parameters(
    metadata: Metadata, theta: float, context: int, tensors: Collection[str]
) -> dict[str, object]:
    """Return a configuration's rotary parameters as `rope.scaling.*` has them.

    Args:
        metadata: Of the file.
        theta: Base of the frequencies.
        context: The longest input, YaRN's default for the length before scaling.
        tensors: Names of the file's tensors.

    Raises:
        ToolkitError: The file scales in a way that our operators do not compute; names it.
    """
    _check_keys(metadata)
    kind = str(metadata.get("rope.scaling.type") or "linear")
    if kind not in _TYPES or any(name in tensors for name in _LONGROPE):
        named = kind if kind not in _TYPES else "longrope"
        raise ToolkitError(
            f"The GGUF file's rotary scaling '{named}' is not supported",
            f"Supported are {', '.join(_TYPES)} and Llama 3's",
        )
    ext = metadata.number("rope.scaling.yarn_ext_factor", -1.0)
    if ext >= 0 and ext != (kind == "yarn"):
        raise _unsupported(metadata, "rope.scaling.yarn_ext_factor")
    plain: dict[str, object] = {"rope_type": "default", "rope_theta": theta}
    if kind == "yarn":
        length = metadata.number("rope.scaling.original_context_length", context)
        scaled = {"factor": metadata.number("rope.scaling.factor")}
        own = {
            name: metadata.number(f"rope.{key}")
            for key, name in _YARN.items()
            if metadata.get(f"rope.{key}") is not None
        }
        return {
            **plain,
            "rope_type": "yarn",
            **scaled,
            "original_max_position_embeddings": length,
            **own,
        }
    # The second key is what the first was called in 2023; 0 says that nothing is scaled.
    factor = metadata.number("rope.scaling.factor", metadata.number("rope.scale_linear", 0.0))
    if kind == "none" or factor in (0.0, 1.0):
        return plain
    return {**plain, "rope_type": "linear", "factor": factor}


def restore_llama3_scaling(config: PretrainedConfig, factors: Tensor) -> None:
    """Set the configuration's rotary scaling to the one whose frequencies the factors give.

    Args:
        config: Changed in place.
        factors: What each inverse frequency is divided by, float32 [head_dim / 2].

    Raises:
        ToolkitError: No known release of Llama 3 has these factors, or the file scales by
            `rope.scaling.*` as well.
    """
    if torch.equal(factors, torch.ones_like(factors)):
        return
    plain = dict(config.rope_parameters)
    if plain["rope_type"] != "default":
        raise ToolkitError(
            f"The GGUF file has rotary factors (rope_freqs) beside its scaling "
            f"'{plain['rope_type']}', which is not supported",
            _REMEDY,
        )
    theta, head_dim = plain["rope_theta"], 2 * len(factors)
    wanted = theta ** (-torch.arange(0, head_dim, 2).double() / head_dim) / factors.double()
    for factor in _FACTORS:
        config.rope_parameters = {**_COMMON, "rope_theta": theta, "factor": factor}
        frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
        if torch.allclose(frequencies.double(), wanted, rtol=1e-4, atol=0):
            return
    config.rope_parameters = plain
    raise ToolkitError(
        "The GGUF file scales rotary positions in a way that is not known (rope_freqs)", _REMEDY
    )


def _check_keys(metadata: Metadata) -> None:
    for key in metadata.keys("rope."):
        short = key.removeprefix("rope.")
        if short in _READ or short in _YARN:
            continue
        if metadata.get(key) not in _NEUTRAL.get(short, ()):
            raise _unsupported(metadata, key)


def _unsupported(metadata: Metadata, key: str) -> ToolkitError:
    return ToolkitError(
        f"{metadata.name(key)}={metadata.get(key)!r:.60} in the GGUF file is not supported", _REMEDY
    )
