"""Names that an export or a run chooses from, once each; imports nothing, so `--help` is quick."""

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a decoder layer that take an adapter where nothing else is asked for."""

FUSED_PROJECTIONS = ("qkv_proj", "gate_up_proj")
"""Those of families that have one projection for several of the usual ones."""

LOWERINGS = ("mesp", "store-h", "mebp", "ms-bp", "approx-bp")
"""How a block's backward is lowered (`toolkit.programs.modules`)."""

RECOMPUTING_LOWERINGS = ("mesp", "store-h")
"""Those whose operators compute in the backward pass what they need once more."""

APPROXIMATE_LOWERINGS = ("approx-bp",)
"""Those whose gradients are not the model's."""


def lowering_label(lowering: str) -> str:
    """Return the name to show, which says where gradients are approximate."""
    note = " (approximate gradients)" if lowering in APPROXIMATE_LOWERINGS else ""
    return f"{lowering}{note}"


SCHEMES = ("int4", "int4-symmetric", "int8")
"""Quantization of a weight (`toolkit.quantization.layout`)."""

ARITHMETICS = ("float32", "fixed16")
"""What the operands of products with quantized weights are rounded to, the default first."""

ISAS = (
    "neon", "neon_dotprod", "neon_i8mm", "avx2", "avxvnni", "avx512", "avx512vnni", "plain",
)  # fmt: skip
"""Instruction sets that the kernels are compiled for."""
