"""How a GGUF file scales rotary positions, of which `transformers` reads nothing.

`rope.scaling.*` names linear and YaRN scaling; both have the same formulas in llama.cpp and in
`transformers`. Llama 3's scaling is a tensor of factors, rope_freqs, longrope's are two,
rope_factors_short and rope_factors_long.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from toolkit.errors import ToolkitError
from toolkit.families import Gguf
from toolkit.sources.gguf_metadata import Metadata, shortest

# Llama 3.1 scales by 8, Llama 3.2 by 32; the other three numbers are the same in all releases.
_FACTORS = (8.0, 32.0)
_COMMON = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_REMEDY = "Use the model's safetensors files"
_TYPES = ("none", "linear", "yarn", "longrope")
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
LLAMA3 = "rope_freqs.weight"
LONGROPE = {
    "short_factor": "rope_factors_short.weight",
    "long_factor": "rope_factors_long.weight",
}


def rope_parameters(
    metadata: Metadata, fields: Mapping[str, Any], family: Gguf, factors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Return a configuration's rotary parameters; Llama 3's scaling is not yet among them.

    Args:
        metadata: Of the file.
        fields: What `read_fields` returns.
        family: What its family can hold.
        factors: The file's tensors of factors, float32 [r / 2] for r features that turn, by name.

    Raises:
        ToolkitError: The file scales in a way that our operators do not compute; names it.
    """
    kind = str(metadata.get("rope.scaling.type") or "linear")
    is_long = kind == "longrope" or any(name in factors for name in LONGROPE.values())
    _check_keys(metadata, {*family.reads, *({"rope.scaling.attn_factor"} if is_long else ())})
    found = {
        **_scaling(metadata, kind, fields["max_position_embeddings"]),
        "rope_theta": fields["rope_theta"],
    }
    if is_long:
        if "factor" in found:
            raise _unsupported(metadata, "rope.scaling.factor")
        found["rope_type"] = "longrope"
    if found["rope_type"] not in family.rope or (kind not in _TYPES):
        named = found["rope_type"] if kind in _TYPES else kind
        scalings = [*sorted(family.rope - {"default"}), "no"]
        raise ToolkitError(
            f"The GGUF file's rotary scaling '{named}' is not supported",
            f"Supported for this family are {', '.join(scalings)} scaling",
        )
    if family.partial:
        turned = metadata.number("rope.dimension_count", fields["head_dim"])
        found["partial_rotary_factor"] = turned / fields["head_dim"]
    if is_long:
        found |= _longrope(metadata, fields, factors)
    if LLAMA3 in factors:
        _check_llama3(found, family)
    return found


def _scaling(metadata: Metadata, kind: str, context: int) -> dict[str, Any]:
    """Return type and numbers of linear and YaRN scaling."""
    ext = metadata.number("rope.scaling.yarn_ext_factor", -1.0)
    if ext >= 0 and ext != (kind == "yarn"):
        raise _unsupported(metadata, "rope.scaling.yarn_ext_factor")
    if kind == "yarn":
        return {
            "rope_type": "yarn",
            "factor": metadata.number("rope.scaling.factor"),
            "original_max_position_embeddings": metadata.number(
                "rope.scaling.original_context_length", context
            ),
            **{
                name: metadata.number(f"rope.{key}")
                for key, name in _YARN.items()
                if metadata.get(f"rope.{key}") is not None
            },
        }
    # The second key is what the first was called in 2023; 0 says that nothing is scaled.
    factor = metadata.number("rope.scaling.factor", metadata.number("rope.scale_linear", 0.0))
    if kind != "linear" or factor in (0.0, 1.0):
        return {"rope_type": "default"}
    return {"rope_type": "linear", "factor": factor}


def _longrope(
    metadata: Metadata, fields: Mapping[str, Any], factors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Return the factors for inputs up to the original length and beyond it."""
    context = fields["max_position_embeddings"]
    original = metadata.number("rope.scaling.original_context_length", context)
    turned = metadata.number("rope.dimension_count", fields["head_dim"])
    found: dict[str, Any] = {"original_max_position_embeddings": original}
    for name, stored in LONGROPE.items():
        if stored not in factors or 2 * len(factors[stored]) != turned:
            has = f"{len(factors[stored])} factors" if stored in factors else "none"
            raise ToolkitError(
                f"The GGUF file scales by longrope and needs {stored} with {turned // 2} factors, "
                f"but has {has}",
                _REMEDY,
            )
        found[name] = [shortest(value) for value in factors[stored].tolist()]
    scale = context / original
    usual = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    own = metadata.number("rope.scaling.attn_factor")
    if np.float32(own) != np.float32(usual):
        found["attention_factor"] = own
    return found


def _check_llama3(found: Mapping[str, Any], family: Gguf) -> None:
    if found["rope_type"] == "default" and "llama3" in family.rope:
        return
    scaling = f"its scaling '{found['rope_type']}'" if "llama3" in family.rope else "it"
    raise ToolkitError(
        f"The GGUF file has rotary factors (rope_freqs) beside {scaling}, which is not supported",
        _REMEDY,
    )


def restore_llama3_scaling(config: PretrainedConfig, factors: Tensor) -> None:
    """Set the configuration's rotary scaling to the one whose frequencies the factors give.

    Args:
        config: Changed in place; its rotary parameters are plain.
        factors: What each inverse frequency is divided by, float32 [head_dim / 2].

    Raises:
        ToolkitError: No known release of Llama 3 has these factors.
    """
    if torch.equal(factors, torch.ones_like(factors)):
        return
    plain = dict(config.rope_parameters)
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


def _check_keys(metadata: Metadata, read: set[str]) -> None:
    for key in metadata.keys("rope."):
        short = key.removeprefix("rope.")
        if short in _READ or short in _YARN or key in read:
            continue
        if metadata.get(key) not in _NEUTRAL.get(short, ()):
            raise _unsupported(metadata, key)


def _unsupported(metadata: Metadata, key: str) -> ToolkitError:
    return ToolkitError(
        f"{metadata.name(key)}={metadata.get(key)!r:.60} in the GGUF file is not supported", _REMEDY
    )
