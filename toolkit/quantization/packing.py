"""The stored form of a quantized weight: panels of 16 output rows, groups of 32 input features.

A weight W [N, K] (N output features, K input features, K a multiple of 32) is stored as

    codes   int4: uint8 [N/16, K, 8], byte j of (p, k): row 16p+j in the low nibble, row 16p+8+j in
            the high nibble.  int8: int8 [N/16, K, 16], element j of (p, k): row 16p+j.
    scale   float16 [N/16, K/32, 16]
    offset  float16 [N/16, K/32, 16], or None

    value   w = scale * code + offset   with an offset (int4 only, code 0..15)
            w = scale * (code - 8)      int4 without
            w = scale * code            int8

One panel is what a matrix kernel multiplies at a time, for x W^T as well as for dy W, so a weight
is stored once. N is padded to a multiple of 16 with rows of scale and offset zero.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from toolkit.errors import ToolkitError

PANEL = 16
"""Output rows in a panel."""
GROUP = 32
"""Input features that share a scale and an offset."""

_CHUNK = 1 << 22
"""Weight elements expanded at a time when a whole matrix is dequantized."""


def pack(codes: Tensor, bits: int) -> Tensor:
    """Arrange integer codes in panels.

    Args:
        codes: Integers [N, K]; 0..15 for 4 bits, -128..127 for 8.
        bits: 4 or 8.

    Returns:
        uint8 [ceil(N/16), K, 8] for 4 bits, int8 [ceil(N/16), K, 16] for 8.
    """
    panels = _panels(codes.to(_code_dtype(bits)))
    if bits == 8:
        return panels
    return panels[..., : PANEL // 2] | (panels[..., PANEL // 2 :] << 4)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Undo `pack`: integer codes [N, K] with N a multiple of 16, uint8 for 4 bits, int8 for 8."""
    return _rows(_expand(packed, bits))


def pack_groups(parameters: Tensor) -> Tensor:
    """Arrange one parameter per group, [N, K/32], as float16 [ceil(N/16), K/32, 16]."""
    return _panels(parameters.to(torch.float16))


def unpack_groups(parameters: Tensor) -> Tensor:
    """Undo `pack_groups`: [N/16, K/32, 16] to [N, K/32], N a multiple of 16."""
    return _rows(parameters)


def bits_of(codes: Tensor) -> int:
    """Return how many bits a code of this packed tensor has: 4 (uint8) or 8 (int8)."""
    return 4 if codes.dtype == torch.uint8 else 8


def shape_of(codes: Tensor) -> tuple[int, int]:
    """Return (N, K) of a packed tensor, N with its padding."""
    return codes.shape[0] * PANEL, codes.shape[1]


def dequantize(
    codes: Tensor, scale: Tensor, offset: Tensor | None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Expand a packed weight to [N, K], computed in `dtype`, with little memory beside the result.

    Args:
        codes: Packed codes.
        scale: float16 [N/16, K/32, 16].
        offset: Like `scale`, or None.
        dtype: Floating-point type of the arithmetic and of the result.
    """
    n, k = shape_of(codes)
    weight = torch.empty(n, k, dtype=dtype)
    step = max(1, _CHUNK // (PANEL * k))
    for p in range(0, codes.shape[0], step):
        part = slice(p, p + step)
        weight[p * PANEL : (p + step) * PANEL] = _rows(
            _values(codes[part], scale[part], None if offset is None else offset[part], dtype)
        )
    return weight


def dequantize_rows(
    codes: Tensor,
    scale: Tensor,
    offset: Tensor | None,
    rows: Tensor,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Expand the rows with the given indices, integers [n], to [n, K]."""
    panel, lane = rows.long() // PANEL, rows.long() % PANEL
    expanded = _values(codes[panel], scale[panel], None if offset is None else offset[panel], dtype)
    return expanded[torch.arange(len(rows)), :, lane]


@dataclass(frozen=True)
class QuantizedTensor:
    """A packed weight [N, K]; see the module's docstring for the three tensors."""

    codes: Tensor
    scale: Tensor
    offset: Tensor | None = None

    def __post_init__(self) -> None:
        lanes = PANEL * self.bits // 8
        groups = (*self.codes.shape[:1], self.codes.shape[1] // GROUP, PANEL)
        parameters = [self.scale] if self.offset is None else [self.scale, self.offset]
        if (
            self.codes.dtype not in (torch.uint8, torch.int8)
            or self.codes.shape[2:] != (lanes,)
            or self.codes.shape[1] % GROUP
            or any(p.shape != groups or p.dtype != torch.float16 for p in parameters)
            or (self.offset is not None and self.bits == 8)
        ):
            raise ToolkitError(
                f"codes {_describe(self.codes)} and parameters "
                f"{[_describe(p) for p in parameters]} are not a quantized weight"
            )

    @classmethod
    def from_groups(
        cls, codes: Tensor, scale: Tensor, offset: Tensor | None, bits: int
    ) -> "QuantizedTensor":
        """Pack codes [N, K] with scale and offset [N, K/32], stored as float16.

        This is how weights that are already quantized in groups of 32 are taken over unchanged.
        """
        if codes.shape[1] % GROUP:
            raise ToolkitError(
                f"a weight with {codes.shape[1]} input features cannot be quantized",
                f"the number of input features must be a multiple of {GROUP}",
            )
        return cls(
            pack(codes, bits), pack_groups(scale), None if offset is None else pack_groups(offset)
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K), N with its padding."""
        return shape_of(self.codes)

    @property
    def bits(self) -> int:
        """4 or 8."""
        return bits_of(self.codes)

    @property
    def nbytes(self) -> int:
        """Bytes of all three tensors."""
        return (
            self.codes.nbytes
            + self.scale.nbytes
            + (0 if self.offset is None else self.offset.nbytes)
        )

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Expand to [N, K], computed in `dtype`."""
        return dequantize(self.codes, self.scale, self.offset, dtype)


def _values(codes: Tensor, scale: Tensor, offset: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Weight values, still in panels: [P, K, 16]."""
    bits = bits_of(codes)
    values = _expand(codes, bits).to(dtype)
    if bits == 4 and offset is None:
        values -= 8
    values = torch.unflatten(values, 1, (-1, GROUP))
    values *= scale.to(dtype).unsqueeze(2)
    if offset is not None:
        values += offset.to(dtype).unsqueeze(2)
    return values.flatten(1, 2)


def _expand(packed: Tensor, bits: int) -> Tensor:
    """One code per element: [P, K, 16]."""
    return packed if bits == 8 else torch.cat([packed & 15, packed >> 4], dim=-1)


def _panels(rows: Tensor) -> Tensor:
    """[N, X] to [ceil(N/16), X, 16], missing rows zero."""
    padded = pad(rows, (0, 0, 0, -rows.shape[0] % PANEL))
    return torch.unflatten(padded, 0, (-1, PANEL)).transpose(1, 2).contiguous()


def _rows(panels: Tensor) -> Tensor:
    """[P, X, 16] to [16 P, X]."""
    return panels.transpose(1, 2).flatten(0, 1)


def _code_dtype(bits: int) -> torch.dtype:
    return {4: torch.uint8, 8: torch.int8}[bits]


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
