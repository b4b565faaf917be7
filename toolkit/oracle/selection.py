"""Steps that change some layers alone, by PyTorch: the oracle of lcsb and block-coordinate."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from toolkit.data.splitmix import SplitMix64
from toolkit.oracle.model import adapter_parameters
from toolkit.settings.methods import METHODS
from toolkit.settings.training import TrainSettings

_STEP = 0xD1342543DE82EF95
_KEPT = 0.9


class LayerSelection:
    """Which of the trained layers a step changes, as runtime/engine/training/methods/lcsb.cc."""

    def __init__(self, settings: TrainSettings, trained: list[int]) -> None:
        method = METHODS[settings.method]
        self._trained, self._settings = trained, settings
        self._count = min(len(trained), settings.blocks or len(trained))
        self._chooses, self._skips = "blocks" in method.options, method.skips
        self._importance: dict[int, float] = {}

    def choose(self, step: int) -> tuple[set[int], set[int]]:
        """Return the layers that a step (1-based) changes, and those that it skips."""
        if not self._chooses:
            return set(self._trained), set()
        count, trained = self._count, self._trained
        if self._settings.selection == "cyclic":
            first = (step - 1) * count
            taken = {trained[(first + i) % len(trained)] for i in range(count)}
        else:
            random = SplitMix64((self._settings.seed + step * _STEP) % 2**64)
            keys = {layer: self._key(layer, random) for layer in trained}
            taken = set(sorted(trained, key=lambda layer: -keys[layer])[:count])
        return taken, set(trained) - taken if self._skips else set()

    def _key(self, layer: int, random: SplitMix64) -> float:
        uniform = ((random.next() >> 11) + 1) * 2.0**-53
        known = self._importance.get(layer)
        return math.inf if known is None else math.log(uniform) / known

    def taken(self, model: Any, layers: set[int]) -> None:
        """Forget the gradients of all other layers, and remember how large those of these are."""
        squares = dict.fromkeys(layers, 0.0)
        for name, parameter in adapter_parameters(model).items():
            layer = int(name.split(".")[1])
            if layer not in layers:
                parameter.grad = None
            elif parameter.grad is not None:
                squares[layer] += float(parameter.grad.double().square().sum())
        for layer, square in squares.items():
            norm, before = math.sqrt(square), self._importance.get(layer)
            self._importance[layer] = (
                norm if before is None else _KEPT * before + (1 - _KEPT) * norm
            )


@contextmanager
def skipping(model: Any, layers: set[int]) -> Iterator[None]:
    """Have these decoder layers pass gradients on as if they were their residual alone."""

    def passed_on(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        result = output if torch.is_tensor(output) else output[0]
        surrogate = hidden + (result - hidden).detach()
        return surrogate if torch.is_tensor(output) else (surrogate, *output[1:])

    blocks = model.get_base_model().model.layers
    hooks = [blocks[i].register_forward_hook(passed_on, with_kwargs=True) for i in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
