"""What a LoRA adapter is, as PEFT's LoraConfig has it. Imports nothing heavy."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from toolkit.choices import PROJECTIONS
from toolkit.errors import ToolkitError
from toolkit.layers import parse_layers

__all__ = [
    "ALL_LINEAR",
    "PROJECTIONS",
    "TEXT_MODULE",
    "LoraSettings",
    "LowRank",
    "parse_pattern",
    "parse_targets",
]

TEXT_MODULE = "model"
"""Path of the module with the decoder layers in a causal language model of `transformers`."""
ALL_LINEAR = "all-linear"
"""Stands for every linear layer of a block, until a model says which these are."""


class LowRank(NamedTuple):
    """R of one projection's adapter, and what its product is multiplied by."""

    rank: int
    scaling: float


@dataclass(frozen=True)
class LoraSettings:
    """Rank, alpha and target projections of an adapter; dropout is 0.

    A family checks the names of the targets (`Family.resolve`).

    Attributes:
        rank: R, of targets that `rank_pattern` does not name.
        alpha: The same of `alpha_pattern`.
        targets: Names of projections, or ALL_LINEAR alone. All of PROJECTIONS, the default, stand
            for ALL_LINEAR in a family that fuses some of them.
        rslora: The product is scaled by alpha / sqrt(R) (arXiv 2312.03732), not by alpha / R.
        rank_pattern, alpha_pattern: Pairs of a target and its own rank or alpha.
        layers: Layers with adapters, as `toolkit.layers` reads them; empty: all.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    rslora: bool = False
    rank_pattern: tuple[tuple[str, int], ...] = ()
    alpha_pattern: tuple[tuple[str, float], ...] = ()
    layers: str = ""

    def __post_init__(self) -> None:
        if not self.targets or len(set(self.targets)) != len(self.targets):
            raise ToolkitError(
                f"LoRA targets '{','.join(self.targets)}' are not valid",
                f"Choose from {', '.join(PROJECTIONS)}, each once, or {ALL_LINEAR}",
            )
        if ALL_LINEAR in self.targets and len(self.targets) > 1:
            raise ToolkitError(f"{ALL_LINEAR} takes no targets beside it", "Leave the others out")
        ranks = [self.rank, *dict(self.rank_pattern).values()]
        alphas = [self.alpha, *dict(self.alpha_pattern).values()]
        if min(ranks) < 1 or not min(alphas) > 0 or not all(map(math.isfinite, alphas)):
            raise ToolkitError(
                f"LoRA rank {min(ranks)} with alpha {min(alphas):g} is not valid",
                "Both must be positive",
            )
        for option, pattern in (("rank", self.rank_pattern), ("alpha", self.alpha_pattern)):
            unknown = [name for name, _ in pattern if name not in self.targets]
            if unknown and self.targets != (ALL_LINEAR,):
                raise ToolkitError(
                    f"the {option} pattern names {unknown[0]}, which is no target",
                    f"Name one of {', '.join(self.targets)}",
                )

    def rank_of(self, target: str) -> int:
        """Return R of a target."""
        return dict(self.rank_pattern).get(target, self.rank)

    def alpha_of(self, target: str) -> float:
        """Return alpha of a target."""
        return dict(self.alpha_pattern).get(target, self.alpha)

    def scaling_of(self, target: str) -> float:
        """Return what a target's low-rank product is multiplied by."""
        rank = self.rank_of(target)
        return self.alpha_of(target) / (math.sqrt(rank) if self.rslora else rank)

    def low_rank(self, target: str) -> LowRank | None:
        """Return a projection's adapter, None where it has none."""
        if target not in self.targets:
            return None
        return LowRank(self.rank_of(target), self.scaling_of(target))

    def layers_of(self, count: int) -> tuple[int, ...]:
        """Return the layers with adapters of a model with so many, in ascending order."""
        return parse_layers(self.layers, count)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads, as JSON values."""
        return {
            "rank": self.rank,
            "alpha": self.alpha,
            "targets": list(self.targets),
            "rslora": self.rslora,
            "rank_pattern": dict(self.rank_pattern),
            "alpha_pattern": dict(self.alpha_pattern),
            "layers": self.layers,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "LoraSettings":
        """Undo `to_json`; bundles of earlier versions lack all but rank, alpha and targets.

        Raises:
            KeyError, TypeError, ValueError: It is not what `to_json` makes.
        """
        return cls(
            int(content["rank"]),
            float(content["alpha"]),
            tuple(map(str, content["targets"])),
            bool(content.get("rslora", False)),
            _pairs(content.get("rank_pattern", {}), int),
            _pairs(content.get("alpha_pattern", {}), float),
            str(content.get("layers", "")),
        )

    def describe(self) -> str:
        """Return all but the targets in words."""
        scale = f"alpha {self.alpha:g}" + (" over the root of the rank" if self.rslora else "")
        words = [f"rank {self.rank}", scale]
        words += [f"rank {rank} on {name}" for name, rank in self.rank_pattern]
        words += [f"alpha {alpha:g} on {name}" for name, alpha in self.alpha_pattern]
        return ", ".join([*words, *([f"layers {self.layers}"] if self.layers else [])])


def parse_targets(targets: str | Iterable[str]) -> tuple[str, ...]:
    """Return names as they are, or those in "q_proj, v_proj"."""
    names = targets.split(",") if isinstance(targets, str) else targets
    return tuple(name.strip() for name in names)


def parse_pattern(
    option: str, texts: Iterable[str], kind: type[int] | type[float]
) -> dict[str, Any]:
    """Return the numbers in "q_proj=16" texts, by name.

    Raises:
        ToolkitError: One is no name and number, or a name comes twice.
    """
    numbers: dict[str, Any] = {}
    for text in texts:
        name, found, value = text.partition("=")
        name = name.strip()
        try:
            number = kind(value)
        except ValueError:
            found = ""
        if not name or not found or name in numbers:
            raise ToolkitError(
                f"{option} {text} is not NAME=NUMBER" + (", once a name" if found else ""),
                f"Write it as {option} q_proj=16",
            )
        numbers[name] = number
    return numbers


def _pairs(pattern: Mapping[str, Any], kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((str(name), kind(value)) for name, value in pattern.items()))
