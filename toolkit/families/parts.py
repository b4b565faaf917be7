"""What the modules of a decoder layer compute, as data that the lowerings build operators from.

A reader takes a module of `transformers`, its path and the model's configuration, and returns its
part; what the module has and the part does not say is an error that names it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from transformers import PretrainedConfig

from toolkit.errors import ToolkitError

REMEDY = "toolkit cannot train this architecture"


@dataclass(frozen=True)
class Linear:
    """y [T, N] = x [T, K] W^T, plus a bias [N] where there is one."""

    n: int
    k: int
    bias: bool


@dataclass(frozen=True)
class Norm:
    """RMSNorm with a weight [width] over the last dimension, or every `width` features of it."""

    width: int
    eps: float


@dataclass(frozen=True)
class Attention:
    """Causal grouped-query attention of the children q_proj, k_proj, v_proj and o_proj.

    Attributes:
        rope: Name of the rotary frequencies (`Family.ropes`) that turn q and k, None for nothing.
        normed: The children q_norm and k_norm come between projection and rotation.
        fused: One child qkv_proj stands for the first three.
        window: Keys that a query sees at most, itself included; None for all before it.
    """

    heads: int
    kv_heads: int
    scale: float
    rope: str | None = "rope"
    normed: bool = False
    fused: bool = False
    window: int | None = None


@dataclass(frozen=True)
class Mlp:
    """down_proj(act(gate_proj(x)) * up_proj(x)) of the children of these names.

    Attributes:
        fused: One child gate_up_proj stands for the first two, gate before up.
        activation: "silu", or "gelu" by tanh.
    """

    fused: bool = False
    activation: str = "silu"


Part = Linear | Norm | Attention | Mlp
Reader = Callable[[nn.Module, str, PretrainedConfig], Part]

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_ATTENTION_NORMS = ("q_norm", "k_norm")
_FUSED_ATTENTION = ("qkv_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")
_FUSED_MLP = ("gate_up_proj", "down_proj")


def linear(module: nn.Linear, _path: str, _config: PretrainedConfig) -> Linear:
    """Read a Linear."""
    return Linear(module.out_features, module.in_features, module.bias is not None)


def rms_norm(module: nn.Module, path: str, config: PretrainedConfig) -> Norm:
    """Read an RMSNorm whose weight multiplies what is normalized."""
    parameters = [name for name, _ in module.named_parameters()]
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if parameters != ["weight"] or epsilon is None:
        raise ToolkitError(
            f"{path} of the family '{config.model_type}' is not an RMSNorm with a weight", REMEDY
        )
    return Norm(module.get_parameter("weight").numel(), epsilon)


def attention(module: Any, path: str, config: PretrainedConfig) -> Attention:
    """Read an attention of four projections in which every head turns as a whole."""
    _check_children(module, path, _ATTENTION, config.model_type)
    return _heads(module)


def normed_attention(module: Any, path: str, config: PretrainedConfig) -> Attention:
    """Read the same with norms of q and k, over each head or over all of them."""
    _check_children(module, path, _ATTENTION, config.model_type, besides=_ATTENTION_NORMS)
    return replace(_heads(module), normed=True)


def fused_attention(module: Any, path: str, config: PretrainedConfig) -> Attention:
    """Read an attention whose q, k and v come from one projection, in this order."""
    _check_children(module, path, _FUSED_ATTENTION, config.model_type)
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if module.qkv_proj.out_features != (heads + 2 * kv_heads) * module.head_dim:
        raise ToolkitError(f"{path}.qkv_proj is not q, k and v of equal heads", REMEDY)
    return Attention(heads, kv_heads, module.scaling, fused=True)


def gated_mlp(module: nn.Module, path: str, config: PretrainedConfig) -> Mlp:
    """Read an MLP of three projections without biases; `features` checks the activation."""
    _check_mlp(module, path, _MLP, config.model_type)
    return Mlp()


def fused_mlp(module: nn.Module, path: str, config: PretrainedConfig) -> Mlp:
    """Read the same where one projection gives gate and up, in this order."""
    _check_mlp(module, path, _FUSED_MLP, config.model_type)
    return Mlp(fused=True)


def _heads(module: Any) -> Attention:
    width = module.head_dim
    heads, kv_heads = (getattr(module, name).out_features // width for name in ("q_proj", "k_proj"))
    return Attention(heads, kv_heads, module.scaling)


def uncovered(name: str, family: str) -> ToolkitError:
    """Return the error for a parameter that no operator reads."""
    return ToolkitError(f"{name} is not covered by the family '{family}'", REMEDY)


def _check_mlp(module: nn.Module, path: str, wanted: tuple[str, ...], family: str) -> None:
    _check_children(module, path, wanted, family)
    for name in wanted:
        if getattr(module, name).bias is not None:
            raise uncovered(f"{path}.{name}.bias", family)


def _check_children(
    module: nn.Module,
    path: str,
    wanted: tuple[str, ...],
    family: str,
    besides: tuple[str, ...] = (),
) -> None:
    for name in wanted:
        if type(getattr(module, name, None)) is not nn.Linear:
            raise ToolkitError(
                f"The family '{family}' has no {path}.{name} that is a Linear", REMEDY
            )
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    if own:
        raise uncovered(f"{path}.{own[0][0]}", family)
    for name, child in module.named_children():
        inner = next((f".{inner}" for inner, _ in child.named_parameters()), "")
        if name not in (*wanted, *besides) and inner:
            raise uncovered(f"{path}.{name}{inner}", family)
