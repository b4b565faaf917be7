"""What a run keeps of every layer: runtime/engine/memory/layer_memory.cc.

Adapters, gradients where all are kept, and what the optimizer remembers, in RAM or in a file of
which a layer at a time is in memory.
"""

from dataclasses import dataclass

from toolkit.planning.checkpoints import spills
from toolkit.planning.graph import Traced
from toolkit.planning.settings import Settings
from toolkit.settings.optimizers import state_bytes

_ADAPTER_ALIGNMENT = 16  # floats


@dataclass(frozen=True)
class _Layer:
    """Of a kind of block: parameters, and bytes of adapters and of the optimizer's states."""

    parameters: int
    adapters: int
    states: int


class LayerState:
    """What a run keeps of all layers.

    Attributes:
        parameters: Trained parameters.
        adapters: Bytes of the adapters.
        optimizer: Bytes of what the optimizer remembers.
        spilled: Whether it is in a file.
        written: Bytes of it that change in a step, and so are written to the file.
    """

    def __init__(self, traced: Traced, settings: Settings, available: int | None) -> None:
        self._settings = settings
        kinds = [(_layer(traced, kind, settings), len(n)) for kind, n in traced.blocks.items()]
        self.parameters = sum(layer.parameters * count for layer, count in kinds)
        self.adapters = sum(layer.adapters * count for layer, count in kinds)
        self.optimizer = sum(layer.states * count for layer, count in kinds)
        self._largest = max((layer for layer, _ in kinds), key=lambda layer: layer.adapters)
        kept = self.adapters if settings.keeps_gradients else 0
        self.spilled = spills(settings.state, self.adapters + self.optimizer + kept, available)
        # Gradients that are kept change once more when they are clipped.
        self.written = self.adapters + self.optimizer + 2 * kept if self.spilled else 0

    def held(self, phase: str) -> dict[str, int]:
        """Return the bytes that a phase has in memory: adapters, optimizer, gradients."""
        layer, settings = self._largest, self._settings
        one = layer.adapters  # as large as its gradients
        more = one if settings.rows > 1 else 0
        if not self.spilled:
            gradients = self.adapters if settings.keeps_gradients else one
            sizes = (self.adapters, self.optimizer, gradients + more)
        else:
            used = phase in ("forward", "backward", "optimizer")
            fixed = not settings.keeps_gradients or phase in ("backward", "optimizer")
            sizes = (
                one if used else 0,
                layer.states if phase == "optimizer" else 0,
                (one if fixed else 0) + more,
            )
        return dict(zip(("adapters", "optimizer", "gradients"), sizes, strict=True))


def _layer(traced: Traced, kind: str, settings: Settings) -> _Layer:
    adapters = traced.adapters(kind)
    padded = sum(-(-a.elements // _ADAPTER_ALIGNMENT) * _ADAPTER_ALIGNMENT for a in adapters)
    return _Layer(
        sum(a.elements for a in adapters),
        4 * padded,
        state_bytes(settings.optimizer, [a.shape for a in adapters], settings),
    )
