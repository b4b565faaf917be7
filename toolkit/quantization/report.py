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


def worst_first(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort entries of a report by falling error; equal errors keep the order of the file."""
    return sorted(tensors, key=lambda tensor: -tensor["relative_error"])


def summarize(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Group a report by scheme and kind of weight (q_proj, embed_tokens, ...).

    Returns:
        One entry a group with count, bytes, mean and largest relative error, and the name of the
        tensor with the largest error, worst group first.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for tensor in tensors:
        key = (tensor["name"].rsplit(".", 1)[-1], tensor["scheme"])
        groups.setdefault(key, []).append(tensor)
    summary = []
    for (kind, scheme), members in groups.items():
        worst = worst_first(members)[0]
        summary.append(
            {
                "weight": kind,
                "scheme": scheme,
                "count": len(members),
                "taken_over": sum(member["taken_over"] for member in members),
                "bytes": sum(member["nbytes"] for member in members),
                "mean_error": sum(m["relative_error"] for m in members) / len(members),
                "worst_error": worst["relative_error"],
                "worst": worst["name"],
            }
        )
    return sorted(summary, key=lambda group: -group["worst_error"])


def _squares(values: Tensor) -> float:
    # Rows are summed in float32, K terms each; the sum over rows is in float64.
    return values.square().sum(-1).double().sum().item()
