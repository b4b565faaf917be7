"""The optimizers: what each remembers of a tensor, and its reference in PyTorch.

One entry each: command lines, planner and oracle take theirs from here. The engine's own is a file
of `runtime/engine/training/optimizers`, and a test holds the two together.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from toolkit.settings.protocols import Planned, Trained

if TYPE_CHECKING:
    import torch
    from torch.optim.optimizer import ParamsT

_LINE = 64  # every state takes whole cache lines
_BYTES = {"float32": 4, "uint8": 1}


def _in_effect(value: float | None) -> float:
    """Return what `TrainSettings.effective` has filled in."""
    assert value is not None
    return value


def _betas(settings: Trained) -> tuple[float, float]:
    return _in_effect(settings.beta1), _in_effect(settings.beta2)


def _decay(settings: Trained) -> float:
    return _in_effect(settings.weight_decay)


@dataclass(frozen=True)
class State:
    """What is remembered of one tensor: `count` elements of a type, float32 or uint8."""

    name: str
    count: int
    type: str = "float32"

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        return -(-self.count * _BYTES[self.type] // _LINE) * _LINE


@dataclass(frozen=True)
class Optimizer:
    """An optimizer.

    Attributes:
        options: Flags that it reads, with the defaults they have for it.
        states: From a tensor's rows, columns and the settings to what is remembered of it.
        reference: From parameters and settings to the same rule in PyTorch, the engine's oracle.
        scratch: As `states`, to the bytes of the kernels' scratch that an update computes with.
        low_rank: As `states`, to the multiply-adds of small products that an update takes, too.
    """

    options: Mapping[str, float]
    states: Callable[[int, int, Planned], list[State]]
    reference: Callable[["ParamsT", Trained], "torch.optim.Optimizer"]
    scratch: Callable[[int, int, Planned], int] = lambda rows, columns, settings: 0
    low_rank: Callable[[int, int, Planned], int] = lambda rows, columns, settings: 0


def _sgd_states(rows: int, columns: int, settings: Planned) -> list[State]:
    return [State("momentum", rows * columns)] if settings.momentum else []


def _sgd(parameters: "ParamsT", settings: Trained) -> "torch.optim.Optimizer":
    import torch

    return torch.optim.SGD(
        parameters,
        lr=settings.learning_rate,
        momentum=_in_effect(settings.momentum),
        weight_decay=_decay(settings),
    )


def _adamw_states(rows: int, columns: int, settings: Planned) -> list[State]:
    return [State(name, rows * columns) for name in ("first_moment", "second_moment")]


def _adamw(parameters: "ParamsT", settings: Trained) -> "torch.optim.Optimizer":
    import torch

    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=_betas(settings),
        eps=_in_effect(settings.eps),
        weight_decay=_decay(settings),
    )


def _lion_states(rows: int, columns: int, settings: Planned) -> list[State]:
    return [State("momentum", rows * columns)]


def _lion(parameters: "ParamsT", settings: Trained) -> "torch.optim.Optimizer":
    from toolkit.oracle.optimizers import Lion

    return Lion(parameters, settings.learning_rate, _betas(settings), _decay(settings))


def _nothing(rows: int, columns: int, settings: Planned) -> list[State]:
    return []


def _lomo(parameters: "ParamsT", settings: Trained) -> "torch.optim.Optimizer":
    from toolkit.oracle.optimizers import Lomo

    return Lomo(parameters, settings.learning_rate, _decay(settings))


def _adamw_8bit_states(rows: int, columns: int, settings: Planned) -> list[State]:
    block, small, count = 256, 4096, rows * columns
    if count < small or count % block:
        return _adamw_states(rows, columns, settings)
    names = ("first", "second")
    states = [
        [State(f"{name}_moment", count, "uint8"), State(f"{name}_scale", count // block)]
        for name in names
    ]
    return states[0] + states[1]


def _adamw_8bit(parameters: "ParamsT", settings: Trained) -> "torch.optim.Optimizer":
    from toolkit.oracle.optimizers import AdamW8bit

    return AdamW8bit(
        parameters,
        settings.learning_rate,
        _betas(settings),
        _in_effect(settings.eps),
        _decay(settings),
    )


def _adalomo_states(rows: int, columns: int, settings: Planned) -> list[State]:
    return [State("row_mean", rows), State("column_mean", columns)]


def _adalomo(parameters: "ParamsT", settings: Trained) -> "torch.optim.Optimizer":
    from toolkit.oracle.optimizers import AdaLomo

    return AdaLomo(
        parameters,
        settings.learning_rate,
        _in_effect(settings.decay_rate),
        _in_effect(settings.eps),
        _in_effect(settings.update_clip),
        _in_effect(settings.rms_floor),
        _decay(settings),
    )


def _apollo_states(rows: int, columns: int, settings: Planned) -> list[State]:
    count = max(rows, columns) * (settings.projection_rank or _APOLLO_RANK)
    return [State("first_moment", count), State("second_moment", count), State("norm", 1)]


def _apollo(parameters: "ParamsT", settings: Trained, by_channel: bool) -> "torch.optim.Optimizer":
    from toolkit.oracle.optimizers import Apollo

    return Apollo(
        parameters,
        settings.learning_rate,
        _betas(settings),
        _in_effect(settings.eps),
        _decay(settings),
        rank=int(_in_effect(settings.projection_rank)),
        gap=int(_in_effect(settings.projection_gap)),
        scale=_in_effect(settings.update_scale),
        by_channel=by_channel,
    )


def _mlorc_states(rows: int, columns: int, settings: Planned) -> list[State]:
    rank, small = settings.projection_rank or _MLORC_RANK, min(rows, columns)
    if rank >= small:
        return _adamw_states(rows, columns, settings)
    wide = rows * columns // small
    return [
        State(f"{name}_{part}", size * rank)
        for name in ("first", "second")
        for part, size in (("basis", small), ("factor", wide))
    ]


def _mlorc_scratch(rows: int, columns: int, settings: Planned) -> int:
    if (settings.projection_rank or _MLORC_RANK) >= min(rows, columns):
        return 0
    lines = [4 * rows * columns] * 3 + [8 * max(rows, columns)]
    return sum(-(-size // _LINE) * _LINE for size in lines)


def _mlorc_low_rank(rows: int, columns: int, settings: Planned) -> int:
    rank, small = settings.projection_rank or _MLORC_RANK, min(rows, columns)
    if rank >= small:
        return 0
    wide = rows * columns // small
    # Half of the square, its eigenvectors by some six sweeps, the products with basis and factor.
    return 2 * (small * (small + 1) // 2 * wide + 17 * small**3 + 2 * rank * small * wide)


def _mlorc(parameters: "ParamsT", settings: Trained) -> "torch.optim.Optimizer":
    from toolkit.oracle.optimizers import Mlorc

    return Mlorc(
        parameters,
        settings.learning_rate,
        _betas(settings),
        _in_effect(settings.eps),
        _decay(settings),
        int(_in_effect(settings.projection_rank)),
    )


_APOLLO_RANK, _MLORC_RANK = 1, 4
_APOLLO = {
    "weight-decay": 0,
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-6,
    "projection-rank": _APOLLO_RANK,
    "projection-gap": 200,
    "update-scale": 1,
}
_ADAMW = {"weight-decay": 0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
OPTIMIZERS = {
    "sgd": Optimizer({"weight-decay": 0, "momentum": 0}, _sgd_states, _sgd),
    "adamw": Optimizer(_ADAMW, _adamw_states, _adamw),
    "lion": Optimizer({"weight-decay": 0, "beta1": 0.9, "beta2": 0.99}, _lion_states, _lion),
    "lomo": Optimizer({"weight-decay": 0}, _nothing, _lomo),
    "adamw-8bit": Optimizer(_ADAMW, _adamw_8bit_states, _adamw_8bit),
    "adalomo": Optimizer(
        {"weight-decay": 0, "eps": 1e-30, "decay-rate": 0.8, "update-clip": 1, "rms-floor": 1e-3},
        _adalomo_states,
        _adalomo,
    ),
    "apollo": Optimizer(_APOLLO, _apollo_states, partial(_apollo, by_channel=True)),
    "apollo-mini": Optimizer(
        {**_APOLLO, "update-scale": 128}, _apollo_states, partial(_apollo, by_channel=False)
    ),
    "mlorc": Optimizer(
        {**_ADAMW, "weight-decay": 0.01, "projection-rank": _MLORC_RANK},
        _mlorc_states,
        _mlorc,
        _mlorc_scratch,
        _mlorc_low_rank,
    ),
}


OPTIONS = tuple(dict.fromkeys(flag for row in OPTIMIZERS.values() for flag in row.options))
"""Flags that not every optimizer reads, or not with the same default."""


def default_text(flag: str) -> str:
    """Return the default of one of `OPTIONS` for people: AdamW's first, then others' own."""
    own = {
        name: f"{row.options[flag]:g}" for name, row in OPTIMIZERS.items() if flag in row.options
    }
    first = own.get("adamw", next(iter(own.values())))
    return ", ".join([first, *(f"{name} {text}" for name, text in own.items() if text != first)])


def state_bytes(optimizer: str, shapes: Iterable[tuple[int, ...]], settings: Planned) -> int:
    """Return the memory that an optimizer takes for tensors [rows, columns] of these shapes."""
    states = OPTIMIZERS[optimizer].states
    return sum(s.bytes for rows, columns in shapes for s in states(rows, columns, settings))
