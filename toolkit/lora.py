"""What a LoRA adapter is: rank, alpha and the projections it changes. Imports nothing heavy."""

import math
from dataclasses import dataclass

from toolkit.choices import PROJECTIONS
from toolkit.errors import ToolkitError

__all__ = ["PROJECTIONS", "LoraSettings"]


@dataclass(frozen=True)
class LoraSettings:
    """Rank, alpha and target projections of an adapter; dropout is 0.

    A family checks the names of the targets (`Family.check_targets`).
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.targets or len(set(self.targets)) != len(self.targets):
            raise ToolkitError(
                f"LoRA targets '{','.join(self.targets)}' are not valid",
                f"Choose from {', '.join(PROJECTIONS)}, each once",
            )
        if self.rank < 1 or not self.alpha > 0 or not math.isfinite(self.alpha):
            raise ToolkitError(
                f"LoRA rank {self.rank} with alpha {self.alpha:g} is not valid",
                "Both must be positive",
            )

    @property
    def scaling(self) -> float:
        """What the adapter's product is multiplied by."""
        return self.alpha / self.rank
