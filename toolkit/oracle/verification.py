"""Gradients of a device against the oracle's: test rows, a perturbed adapter, the verdict."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit.bundle.bundle import Bundle
from toolkit.bundle.flat_tensor import write_flat_tensor
from toolkit.data.samples import IGNORED, Piece, Rows, to_rows
from toolkit.data.splitmix import splitmix64
from toolkit.oracle.approximate import Approximation
from toolkit.oracle.gradients import Gradients, TensorError, compare
from toolkit.oracle.thresholds import NearThresholds

TOLERANCE = 1e-4
"""Largest relative error of a gradient tensor and of the loss in float32."""
TOLERANCES = {"float32": TOLERANCE, "fixed16": 3e-3}
"""The same by arithmetic."""
ROUNDING_FACTOR, ROUNDING_CAP = 4.0, 10.0
"""Where float32 itself is worse than the tolerance, a device may be so many times as far from
float64 as PyTorch in float32, and never more than so many tolerances. Both errors are single draws:
one rounding of a massive activation decides them (over eight seeds on SmolLM2-135M their ratio was
0.6 to 2.3)."""
NEAR_FACTOR = 2.0
"""Where gradients are approximate, the share of the effect of all elements within rounding of a
threshold by which a tensor may be off besides: some of them turned, which may add up where all
together cancel."""
_PERTURBATION = 0.02


def write_perturbed_adapter(bundle: Bundle, path: Path, seed: int) -> None:
    """Write the bundle's adapter with seeded normal noise added to every tensor.

    A fresh adapter has B = 0, for which the gradient of A vanishes and proves nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    names = bundle.adapter.keys()
    specs = [bundle.adapter.spec(name) for name in names]
    tensors = (
        bundle.adapter.tensor(spec.name)
        + _PERTURBATION * torch.randn(spec.shape, generator=generator)
        for spec in specs
    )
    write_flat_tensor(path, specs, tensors)


def verification_rows(count: int, seq_len: int, vocab: int, seed: int) -> Rows:
    """Return rows of random tokens: full, padded, packed and padded, and full with ignored labels.

    With more than four rows the kinds repeat.
    """
    drawn = splitmix64(seed, count * (seq_len + 1)).reshape(count, seq_len + 1)
    tokens = (drawn >> np.uint64(32)) % np.uint64(vocab)
    ignored = (drawn & np.uint64(0xFF)) < np.uint64(96)
    groups = []
    for row in range(count):
        kind, third = row % 4, max(seq_len // 3, 1)
        lengths = {1: [2 * third], 2: [third, third]}.get(kind, [seq_len])
        pieces, at = [], 0
        for length in lengths:
            end = min(at + length, seq_len)
            labels = tokens[row, at + 1 : end + 1].astype(np.int32)
            if kind == 3:
                labels[:-1][ignored[row, at : end - 1]] = IGNORED
            pieces.append(Piece(tokens[row, at:end].astype(np.int32), labels))
            at = end
        groups.append([piece for piece in pieces if len(piece.inputs)])
    return to_rows(groups, seq_len, pad=0)


@dataclass(frozen=True)
class Verification:
    """Loss and gradients of a device beside the oracle's; `errors` has the worst tensor first.

    `rounding` has, for tensors that were compared with float64, how far PyTorch in float32 is off.
    `approximation` tells, where the bundle's gradients are approximate, how far PyTorch's gradients
    by the same rule, with which the device's were compared, are from the model's; `near`, where
    tensors of such a bundle were compared with float64, how much of them rounding decides.
    """

    device_loss: float
    oracle_loss: float
    tokens: int
    errors: list[TensorError]
    tolerance: float = TOLERANCE
    rounding: dict[str, float] = field(default_factory=dict)
    approximation: Approximation | None = None
    near: NearThresholds | None = None

    @property
    def loss_error(self) -> float:
        """Difference of the losses relative to the oracle's."""
        return abs(self.device_loss - self.oracle_loss) / max(abs(self.oracle_loss), 1e-30)

    @property
    def passed(self) -> bool:
        """Whether loss and every tensor are within their limits; NaN is not."""
        return (
            bool(self.errors)
            and all(error.relative <= self.limit(error.name) for error in self.errors)
            and self.loss_error <= self.tolerance
        )

    def limit(self, name: str) -> float:
        """Return the largest relative error that a tensor may have."""
        rounding = ROUNDING_FACTOR * self.rounding.get(name, 0.0)
        limit = min(max(self.tolerance, rounding), ROUNDING_CAP * self.tolerance)
        return limit + (NEAR_FACTOR * self.near.effects.get(name, 0.0) if self.near else 0.0)

    def groups(self) -> dict[str, list[TensorError]]:
        """Return the errors by kind of tensor, for example "q_proj.lora_A", worst first."""
        found: dict[str, list[TensorError]] = {}
        for error in self.errors:
            found.setdefault(error.group, []).append(error)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; an infinite error is null."""
        return {
            "passed": self.passed,
            "tolerance": self.tolerance,
            "loss": {"device": self.device_loss, "pytorch": self.oracle_loss},
            "loss_error": self.loss_error,
            "tokens": self.tokens,
            "approximate_gradients": None
            if self.approximation is None
            else asdict(self.approximation),
            "near_thresholds": None if self.near is None else self.near.count,
            "tensors": [
                {
                    "name": error.name,
                    "relative_error": error.relative if np.isfinite(error.relative) else None,
                    "norm": error.norm,
                    "float32_rounding": self.rounding.get(error.name),
                    "limit": self.limit(error.name),
                }
                for error in self.errors
            ],
        }


def judge(device: Gradients, oracle: Gradients, tolerance: float = TOLERANCE) -> Verification:
    """Compare what a device computed with the oracle."""
    errors = compare(device.tensors, oracle.tensors)
    return Verification(device.loss, oracle.loss, oracle.tokens, errors, tolerance)


def judge_rounding(
    verdict: Verification, device: Gradients, oracle: Gradients, exact: Gradients
) -> Verification:
    """Hold the tensors above the tolerance against float64, beside PyTorch's float32.

    Some gradients are small differences of large terms (tokens with massive activations); there two
    correct float32 computations differ by more than the tolerance.
    """
    above = {e.name for e in verdict.errors if e.relative > verdict.tolerance}
    wanted = {name: exact.tensors[name] for name in above}
    rounding = {error.name: error.relative for error in compare(oracle.tensors, wanted)}
    errors = [error for error in verdict.errors if error.name not in above]
    errors += compare(device.tensors, wanted)
    errors.sort(key=lambda error: (-error.relative, error.name))
    return replace(verdict, errors=errors, rounding=rounding)
