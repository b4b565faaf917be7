"""How far a quantized weight is from the weight it stands for."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from toolkit.quantization.packing import QuantizedTensor


@dataclass(frozen=True)
class TensorQuality:
    """One weight's entry in a bundle's quantization report.

    Attributes:
        name: Key of the weight in base.ptd.
        scheme: Quantization scheme.
        taken_over: Whether the source stored it in this form already; its error is then 0, since
            the source has no other value.
        relative_error: Norm of (quantized - source) over norm of source.
        shape: (N, K) without padding.
        nbytes: Bytes in base.ptd.
    """

    name: str
    scheme: str
    taken_over: bool
    relative_error: float
    shape: tuple[int, int]
    nbytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the entry as it is written to manifest.json."""
        return {**asdict(self), "shape": list(self.shape)}


class ErrorMeter:
    """Adds up the error of a weight that is quantized some rows at a time, in float64."""

    def __init__(self) -> None:
        self._error = 0.0
        self._norm = 0.0

    def add(self, weight: Tensor, quantized: QuantizedTensor) -> None:
        """Count rows of the source, float32 [n, K], against their quantized form."""
        difference = quantized.dequantize()[: weight.shape[0]].sub_(weight)
        self._error += _squares(difference)
        self._norm += _squares(weight)

    @property
    def relative_error(self) -> float:
        """Norm of the difference over norm of the source; 0 for a weight of zeros."""
        return (self._error / self._norm) ** 0.5 if self._norm else 0.0


def _squares(values: Tensor) -> float:
    # Rows are summed in float32, K terms each; the sum over rows is in float64.
    return values.square().sum(-1).double().sum().item()
