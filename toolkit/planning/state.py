"""What a run keeps of every layer: runtime/engine/memory/layer_memory.cc.

Adapters, gradients where all are kept, and what the optimizer remembers, in RAM or in a file of
which a layer at a time is in memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from toolkit.planning.checkpoints import spills
from toolkit.planning.graph import Traced, Value
from toolkit.planning.settings import Settings
from toolkit.settings.optimizers import OPTIMIZERS, state_bytes

_ADAPTER_ALIGNMENT = 16  # floats
_WINDOW = 64 * 1024  # in which the kernel maps the pages of a file


@dataclass(frozen=True)
class _Layer:
    """Of a kind of block: parameters, and those that are trained; bytes of adapters, of gradients,
    of the optimizer's states and of the scratch that updating one of its tensors takes;
    multiply-adds of its small products."""

    parameters: int
    updated: int
    adapters: int
    gradients: int
    states: int
    scratch: int
    low_rank: int


class LayerState:
    """What a run keeps of all layers.

    Attributes:
        parameters: Of the adapters that can be trained.
        updated: Those that are: without A where that is frozen.
        adapters: Bytes of the adapters.
        optimizer: Bytes of what the optimizer remembers.
        scratch: Bytes of the kernels' scratch that the optimizer takes.
        low_rank: Multiply-adds of the optimizer's small products.
        trained: Layers that have an adapter.
        share: Of these, those that a step changes.
        spilled: Whether it is in a file.
        written: Bytes of it that change in a step, and so are written to the file.
    """

    def __init__(self, traced: Traced, settings: Settings, available: int | None) -> None:
        self._settings = settings
        every = [(_layer(traced, kind, settings), n) for kind, n in traced.blocks.items()]
        self.adapters = sum(layer.adapters * len(n) for layer, n in every)
        computed = settings.computed(traced.layers)
        kinds = [(layer, sum(i < computed for i in n)) for layer, n in every]
        self.parameters = sum(layer.parameters * count for layer, count in kinds)
        self.updated = sum(layer.updated * count for layer, count in kinds)
        self._gradients = sum(layer.gradients * len(n) for layer, n in every)
        self.optimizer = sum(layer.states * count for layer, count in kinds)
        self.scratch = max(layer.scratch for layer, _ in kinds)
        self.low_rank = sum(layer.low_rank * count for layer, count in kinds)
        self._largest = max((layer for layer, _ in kinds), key=lambda layer: layer.adapters)
        kept = self._gradients if settings.keeps_gradients else 0
        self.spilled = spills(settings.state, self.adapters + self.optimizer + kept, available)
        self.trained = sum(count for layer, count in kinds if layer.parameters)
        self.share = settings.taken(self.trained) / self.trained
        # Gradients that are kept change once more when they are clipped.
        changed = self.share * (self.adapters + self.optimizer + 2 * kept)
        self.written = round(changed) if self.spilled else 0

    def held(self, phase: str) -> dict[str, int]:
        """Return the bytes that a phase has in memory: adapters, optimizer, gradients."""
        layer, settings = self._largest, self._settings
        one, own = layer.adapters, layer.gradients
        backward = settings.how.backward
        more = own if settings.rows > 1 else 0
        # Estimates are of two perturbed copies of a layer for every direction in work.
        copies = 0 if backward else 2 * max(1, settings.together // 2) * one
        if not self.spilled:
            gradients = self._gradients if settings.keeps_gradients else own
            sizes = (self.adapters, self.optimizer, gradients + more)
        else:
            used = phase in ("forward", "backward", "optimizer")
            fixed = not settings.keeps_gradients or phase in ("backward", "optimizer")
            sizes = (
                one if used else 0,
                layer.states if phase == "optimizer" else 0,
                (own if fixed else 0) + more,
            )
        adapters, optimizer, gradients = sizes
        return {
            "adapters": adapters + copies,
            "optimizer": optimizer,
            "gradients": gradients if backward else 0,
        }

    def around(self, phase: str) -> int:
        """Return the bytes of the state's file that are mapped beside the layer in use: of each of
        its parts half a window in front of it and behind it, on average."""
        held = self.held(phase)
        parts = [held["adapters"], held["optimizer"]]
        parts += [held["gradients"]] if self._settings.keeps_gradients else []
        return _WINDOW * sum(size > 0 for size in parts) if self.spilled else 0


def _layer(traced: Traced, kind: str, settings: Settings) -> _Layer:
    adapters = traced.adapters(kind)
    b_alone = settings.freeze == "a"
    updated = [a for a in adapters if ".lora_B." in a.name or not b_alone]
    shapes = [(rows, columns) for rows, columns in (a.shape for a in updated)]
    optimizer = OPTIMIZERS[settings.optimizer]
    return _Layer(
        sum(a.elements for a in adapters),
        sum(a.elements for a in updated),
        _padded(adapters),
        _padded(updated),
        state_bytes(settings.optimizer, shapes, settings),
        max((optimizer.scratch(*shape, settings) for shape in shapes), default=0),
        sum(optimizer.low_rank(*shape, settings) for shape in shapes),
    )


def _padded(tensors: Iterable[Value]) -> int:
    """Return the bytes of tensors, each of which begins where the engine has it begin."""
    return 4 * sum(-(-t.elements // _ADAPTER_ALIGNMENT) * _ADAPTER_ALIGNMENT for t in tensors)
