"""The settings of a run, declared once.

Command line, config file, Python API, planner, oracle, what a resume compares and what the app is
given derive from here. The trainer has a row of `runtime/engine/training/options.def` for each that
it reads; a test holds the two together. A new setting is one field here and one row there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from toolkit.choices import ARITHMETICS
from toolkit.settings.checks import check_together, optimizer_of, reads_none, steps_of
from toolkit.settings.declaration import (
    Setting,
    Value,
    by_flag,
    help_text,
    setting,
    settings_of,
)
from toolkit.settings.methods import METHODS
from toolkit.settings.optimizers import OPTIMIZERS, default_text
from toolkit.settings.places import PLACES

_MANY = 9e15


def _own(flag: str, help: str, minimum: float, maximum: float, **facts: Any) -> Any:
    """Return a setting that only some optimizers read, each with its own default."""
    limits = {"minimum": minimum, "maximum": maximum}
    return setting(None, help, shown=default_text(flag), **limits, **facts)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of a run, checked when they are made.

    The length is given in `steps` or in `epochs`. What is None is left to the optimizer (`beta1`,
    `beta2`, `eps`, `momentum`, `weight_decay` and what only some have) or to the trainer
    (`save_every`), or is off (`eval_every`). `TrainSettings.help()` tells every setting with unit
    and default.

    Raises:
        ToolkitError: A value is out of range, or two contradict each other.

    Example:
        >>> settings = toolkit.TrainSettings(steps=50, learning_rate=5e-4, optimizer="lion")
        >>> settings.effective().beta2
        0.99
    """

    # fmt: off
    steps: int | None = setting(
        None, "Optimizer steps of the whole run.",
        unit="steps", minimum=1, maximum=_MANY, app=True,
    )
    epochs: float | None = setting(
        None, "Instead of --steps: how often the data is seen; a part of it, too, as 0.5.",
        unit="epochs", minimum=1e-6, maximum=1e6, source="host",
    )
    learning_rate: float = setting(
        1e-4, "Learning rate.", flag="lr", minimum=0, maximum=1e3, app=True,
    )
    schedule: str = setting(
        "constant", "Learning rate after the warm-up.",
        choices=("constant", "linear", "cosine"), app=True,
    )
    min_learning_rate: float = setting(
        0.0, "Where a linear or cosine schedule ends.", flag="min-lr", minimum=0, maximum=1e3,
    )
    warmup_steps: int = setting(
        0, "Steps of linear warm-up.", unit="steps", minimum=0, maximum=_MANY, app=True,
    )
    method: str = setting(
        "exact", "How a step finds what to change: exact gradients, of some layers a step "
        "(block-coordinate), or of a surrogate of the model (lcsb); or estimates from forward "
        "passes alone (mezo, sparse-mezo of small values, mobizo of B along several directions), "
        "which change the adapter themselves, as sgd would; or exact ones, most of them computed "
        "by this computer (split).",
        choices=tuple(METHODS), plan=True,
    )
    zo_eps: float | None = setting(
        None, "Estimates: how far along a random direction two losses are from the adapter's.",
        shown="0.001", minimum=1e-6, maximum=1,
    )
    sparsity: float | None = setting(
        None, "sparse-mezo: share of a tensor's values, the larger ones, that stays as it is.",
        shown="0.8", minimum=0, maximum=0.999,
    )
    blocks: int | None = setting(
        None, "lcsb, block-coordinate: layers that a step changes, at most all that are trained.",
        unit="layers", shown="8", minimum=1, maximum=4096, plan=True,
    )
    selection: str = setting(
        "cyclic", "lcsb, block-coordinate: which layers: one group after the other, or drawn in "
        "proportion to their gradients' norms.",
        choices=("cyclic", "importance"),
    )
    queries: int | None = setting(
        None, "mobizo: directions of a step.", unit="directions", shown="4",
        minimum=1, maximum=1000, plan=True,
    )
    cut: int | None = setting(
        None, "split: lower layers that the device computes and trains.",
        unit="layers", shown="1", minimum=1, maximum=4096, plan=True,
    )
    optimizer: str = setting(
        "adamw", "How gradients change the adapter.",
        choices=tuple(OPTIMIZERS), app=True, plan=True,
    )
    weight_decay: float | None = _own(
        "weight-decay", "Weight decay; decoupled from the gradient but for sgd.", 0, 1e3,
    )
    beta1: float | None = _own("beta1", "Decay of the gradient's mean.", 0, 0.9999999)
    beta2: float | None = _own(
        "beta2", "Decay of its square's mean, or lion's second decay.", 0, 0.9999999,
    )
    eps: float | None = _own("eps", "Added to the root, or, by adalomo, below it.", 1e-30, 1)
    momentum: float | None = _own("momentum", "SGD: momentum.", 0, 1, plan=True)
    decay_rate: float | None = _own(
        "decay-rate", "Adalomo: the second moment of step t keeps 1 - t^-F of what it was.",
        1e-6, 1,
    )
    update_clip: float | None = _own(
        "update-clip", "Adalomo: largest root mean square of an update, before its rate.",
        1e-6, 1e6,
    )
    rms_floor: float | None = _own(
        "rms-floor", "Adalomo: least root mean square that a tensor counts with.", 1e-12, 1e6,
    )
    projection_rank: int | None = _own(
        "projection-rank", "Apollo, mlorc: rank of what is remembered of a tensor.",
        1, 1024, plan=True,
    )
    projection_gap: int | None = _own(
        "projection-gap", "Apollo: steps before another random projection.",
        1, _MANY, unit="steps",
    )
    update_scale: float | None = _own(
        "update-scale", "Apollo: the update is its root times as large.", 1e-6, 1e9,
    )
    max_grad_norm: float = setting(
        0.0, "Clip gradients to this global norm; 0 is off.", minimum=0, maximum=1e30, plan=True,
    )
    clipping: str = setting(
        "keep", "How the norm is known before the update: keep all gradients in memory; or one "
        "block's, and compute the step twice, with the same result; or by the norm of the step "
        "before, an approximation.",
        choices=("keep", "twice", "last-norm"), plan=True,
    )
    lora_plus_ratio: float = setting(
        1.0, "LoRA+: the learning rate of B is so many times that of A.",
        minimum=1e-6, maximum=1e6,
    )
    freeze: str = setting(
        "none", "a: A stays as it is, without gradient or optimizer state; B alone is trained.",
        choices=("none", "a"), plan=True,
    )
    layers: str | None = setting(
        None, "Train the adapters of these layers alone, as 16-23, 0,4,8-11 or last:8; the "
        "backward pass ends with the lowest of them.",
        shown="all that have adapters",
    )
    batch_size: int = setting(
        1, "Sequences computed together; the bundle needs programs for all their tokens. Faster "
        "for short sequences, with more memory.",
        unit="sequences", minimum=1, maximum=1e4, plan=True,
    )
    grad_accum: int = setting(
        1, "Batches, one after the other, whose gradients make one step.",
        unit="batches", minimum=1, maximum=1e6, app=True,
    )
    seed: int = setting(0, "Seed of the samples' order.", minimum=0, maximum=_MANY, app=True)
    order: str = setting(
        "shuffled", "Order of the samples.", choices=("shuffled", "sequential"), app=True,
    )
    threads: int = setting(
        0, "Threads on the device; 0: its fast cores.",
        unit="threads", minimum=0, maximum=256, app=True,
    )
    arithmetic: str = setting(
        ARITHMETICS[0], "Of products with quantized weights: float32, or fixed16, faster, which "
        "rounds what they are multiplied with to 16 bits, with a scale for 32 neighbours.",
        choices=ARITHMETICS, app=True, plan=True,
    )
    checkpoints: str = setting(
        "auto", "Where block inputs wait for the backward; spill is to storage.",
        choices=("auto", "ram", "spill"), plan=True,
    )
    state: str = setting(
        "auto", "Where adapters, the gradients that are kept and what the optimizer remembers "
        "are; spill: on storage, a layer at a time in memory, written anew in every step; auto: "
        "there if they take more than a quarter of free memory.",
        choices=("auto", "ram", "spill"), plan=True,
    )
    page_cache: str = setting(
        "auto", "Of weights that were used; auto keeps them if all fit into memory.",
        choices=("auto", "keep", "drop"),
    )
    save_every: int | None = setting(
        None, "Save every so many steps, and at the end.",
        unit="steps", minimum=0, maximum=_MANY, shown="50", app=True,
    )
    save_minutes: float = setting(
        2.0, "Save every so many minutes too; 0 is off. Without --save-every saves are so far "
        "apart that they write at most 1 GB an hour.",
        unit="minutes", minimum=0, maximum=1e6,
    )
    keep_checkpoints: int = setting(
        0, "Keep the adapters of the last N saves, too, as checkpoints/step-K.",
        unit="saves", minimum=0, maximum=1000, plan=True,
    )
    eval_every: int | None = setting(
        None, "Evaluate held-out data every N steps; with 0 only before the first step and after "
        "the last. Without this option nothing is evaluated.",
        unit="steps", minimum=0, maximum=_MANY,
    )
    patience: int = setting(
        0, "End the run, completed, after so many evaluations in a row without a new lowest "
        "held-out loss; 0 is off.",
        unit="evaluations", minimum=0, maximum=_MANY,
    )
    keep: str = setting(
        "last", "Which adapter `toolkit pull` brings: the last, or the one of the lowest held-out "
        "loss, which is stored beside it. A resume goes on from the last.",
        choices=("last", "best"),
    )
    max_samples: int = setting(
        0, "Of held-out data only the first N sequences; 0 is all.",
        unit="samples", minimum=0, maximum=_MANY,
    )
    trace: str = setting(
        "full", "How much the trace records.", choices=("full", "steps"), app=True,
    )
    # fmt: on

    def __post_init__(self) -> None:
        for known in SETTINGS:
            object.__setattr__(self, known.name, known.value_of(getattr(self, known.name)))
        defaults = {known.flag: known.default for known in SETTINGS}
        check_together({flag: self._value(flag) for flag in defaults}, defaults)
        object.__setattr__(self, "optimizer", optimizer_of(self.method, self.optimizer))

    @classmethod
    def of(cls, values: Mapping[str, object], where: str = "the run") -> "TrainSettings":
        """Return settings from values by flag or by name, `where` they come from for errors."""
        flags = by_flag(values, SETTINGS, where)
        names = {known.flag: known.name for known in SETTINGS}
        given: dict[str, Any] = {names[flag]: v for flag, v in flags.items() if v is not None}
        settings = cls(**given)
        if given.get("optimizer", settings.optimizer) != settings.optimizer:
            raise reads_none(settings.method, "optimizer")
        return settings

    def flags(self) -> dict[str, Value]:
        """Return what is set, by flag."""
        values = {known.flag: getattr(self, known.name) for known in SETTINGS}
        return {flag: value for flag, value in values.items() if value is not None}

    def effective(self) -> "TrainSettings":
        """Return the same settings with the method's and the optimizer's own defaults filled in."""
        own = {**METHODS[self.method].options, **OPTIMIZERS[self.optimizer].options}
        names = {known.flag: known.name for known in SETTINGS}
        missing: dict[str, Any] = {
            names[flag]: own[flag] for flag in own if self._value(flag) is None
        }
        full = replace(self, **missing)
        if full.cut is not None and full.layers is None:
            full = replace(full, layers=f"0-{full.cut - 1}")
        return full

    def for_samples(self, samples: int | None) -> "TrainSettings":
        """Return the same settings with their length in steps.

        Args:
            samples: Training sequences of the data, None where they are not known.

        Raises:
            ToolkitError: There is no length, or one in epochs of data that is not known.
        """
        if self.epochs is None and self.steps is not None:
            return self
        steps = steps_of(self.epochs, samples, self.batch_size * self.grad_accum)
        return replace(self, epochs=None, steps=steps)

    @staticmethod
    def help() -> str:
        """Return every setting with its help, unit and default, a line each."""
        return "\n".join(f"{known.name}: {help_text(known)}" for known in SETTINGS)

    def _value(self, flag: str) -> Value:
        value: Value = getattr(self, FLAGS[flag].name)
        return value


SETTINGS: tuple[Setting, ...] = settings_of(TrainSettings)
FLAGS: dict[str, Setting] = {known.flag: known for known in (*PLACES, *SETTINGS)}
"""Everything that a config file may say."""
