"""What the configuration of a decoder model turns on and our operators do not compute.

A feature that is not covered is refused by its name, here and not as a wrong gradient on a device.
"""

from collections.abc import Collection

from transformers import PretrainedConfig

from toolkit.errors import ToolkitError

NEUTRAL: dict[str, tuple[object, ...]] = {
    "hidden_act": ("silu",),
    "mlp_bias": (False,),
    "attention_dropout": (0.0,),
    "hidden_dropout": (0.0,),
    "resid_pdrop": (0.0,),
    "embd_pdrop": (0.0,),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "query_pre_attn_scalar": (),
    "use_bidirectional_attention": (False,),
    "use_qk_norm": (False,),
    "qk_layernorm": (False,),
    "embedding_multiplier": (1.0,),
    "residual_multiplier": (1.0,),
    "attention_multiplier": (),
    "logits_scaling": (1.0,),
    "logit_scale": (1.0,),
    "scale_emb": (1.0,),
    "scale_depth": (),
    "no_rope_layers": (),
    "num_experts": (),
    "num_local_experts": (),
}
"""Features of decoder models and the values at which they do nothing; None and absent do too."""


def check_features(config: PretrainedConfig, supported: Collection[str]) -> None:
    """Refuse features and sizes for which there are no operators.

    Args:
        config: Of a known family.
        supported: Names of `NEUTRAL` that its family takes care of, and "sliding_attention" where
            some layers have windows.

    Raises:
        ToolkitError: Naming the first of them.
    """
    for name, neutral in NEUTRAL.items():
        value = getattr(config, name, None)
        if name not in supported and value is not None and value not in neutral:
            raise ToolkitError(
                f"{name}={value!r} is not supported",
                f"It must be {neutral[0]!r}" if neutral else "It must be left out",
            )
    _check_windows(config, "sliding_attention" in supported)
    _check_sizes(config)


def head_dimension(config: PretrainedConfig) -> int:
    """Return the width of one attention head."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(width)


def _check_windows(config: PretrainedConfig, supported: bool) -> None:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    unknown = sorted(kinds - {"full_attention", "sliding_attention"})
    if unknown:
        raise ToolkitError(
            f"layer_types has {unknown[0]!r}, which is not supported",
            "Every layer must have full_attention" + " or sliding_attention" * supported,
        )
    if "sliding_attention" not in kinds:
        return
    window = getattr(config, "sliding_window", None) or 0
    if supported and window < 1:
        raise ToolkitError(
            f"sliding_window={config.sliding_window!r} is not supported",
            "Layers with sliding_attention must see at least one key",
        )
    if not supported and window < config.max_position_embeddings:
        raise ToolkitError(
            f"Layers with a sliding window of {window} tokens are not supported",
            "Every layer must attend to the whole context",
        )


def _check_sizes(config: PretrainedConfig) -> None:
    for name, multiple in (("hidden_size", 32), ("intermediate_size", 32)):
        if getattr(config, name) % multiple:
            raise ToolkitError(
                f"{name}={getattr(config, name)} is not a multiple of {multiple}",
                "The quantization groups are 32 values long",
            )
    head_dim = head_dimension(config)
    for heads in (config.num_attention_heads, config.num_key_value_heads):
        if heads * head_dim % 16:
            raise ToolkitError(
                f"A projection to {heads} heads of {head_dim} is not a multiple of 16 wide",
                "Weights are stored in panels of 16 rows",
            )
    if config.num_attention_heads * head_dim % 32:
        raise ToolkitError(
            f"The attention output is {config.num_attention_heads * head_dim} wide",
            "The quantization groups are 32 values long",
        )
