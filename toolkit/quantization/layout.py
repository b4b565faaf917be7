"""Shapes and dtypes of a quantized weight's tensors, known before any weight is read."""

from dataclasses import dataclass

import torch

from toolkit.errors import ToolkitError
from toolkit.quantization.packing import GROUP, PANEL


@dataclass(frozen=True)
class WeightLayout:
    """How a scheme stores a matrix: 4 or 8 bit codes, with or without offsets."""

    bits: int
    has_offset: bool

    def tensors(self, n: int, k: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Return name -> (shape, dtype) for a weight [N, K]; N is padded to whole panels."""
        panels = -(-n // PANEL)
        parameters = ((panels, k // GROUP, PANEL), torch.float16)
        codes = (
            ((panels, k, PANEL // 2), torch.uint8)
            if self.bits == 4
            else ((panels, k, PANEL), torch.int8)
        )
        tensors: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "codes": codes,
            "scale": parameters,
        }
        if self.has_offset:
            tensors["offset"] = parameters
        return tensors


LAYOUTS = {
    "int4": WeightLayout(bits=4, has_offset=True),
    "int4-symmetric": WeightLayout(bits=4, has_offset=False),
    "int8": WeightLayout(bits=8, has_offset=False),
}


def weight_layout(scheme: str) -> WeightLayout:
    """Return the layout of a quantization scheme.

    Raises:
        ToolkitError: The scheme does not exist.
    """
    if scheme not in LAYOUTS:
        raise ToolkitError(
            f"Quantization scheme '{scheme}' is unknown", f"Choose from {', '.join(LAYOUTS)}"
        )
    return LAYOUTS[scheme]
