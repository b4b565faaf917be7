"""Memory and time of a training step, predicted from a model's shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import Any

from toolkit.api.devices import Device
from toolkit.device import Device as Connection
from toolkit.device import open_device
from toolkit.errors import ToolkitError
from toolkit.lora import ALL_LINEAR, parse_targets
from toolkit.planning import report
from toolkit.planning.commands import commands
from toolkit.planning.model import Model, open_model
from toolkit.planning.predict import Planner, Prediction
from toolkit.planning.search import Proposal, propose
from toolkit.planning.settings import Machine, Settings
from toolkit.planning.sizes import parse_size
from toolkit.settings.declaration import Value, by_flag
from toolkit.settings.methods import METHODS
from toolkit.settings.training import SETTINGS, TrainSettings


@dataclass(frozen=True)
class Plan:
    """What a step will take; with a budget, the fastest settings within it.

    Attributes:
        model: What is planned for.
        prediction: Of the settings to use: those asked for, those that fit, or the smallest.
        proposal: The answer to a budget, None without one.
        device: The device it is for, None for this machine or an assumed phone.
    """

    model: Model
    prediction: Prediction
    proposal: Proposal | None = None
    device: str | None = None

    @property
    def fits(self) -> bool:
        """Whether something fits the budget; without one, everything does."""
        return self.proposal is None or self.proposal.best is not None

    @property
    def peak_bytes(self) -> int:
        """Highest resident memory, bytes."""
        return self.prediction.peak

    @property
    def seconds(self) -> float:
        """Seconds of a step."""
        return self.prediction.seconds

    @property
    def commands(self) -> list[str]:
        """The commands from the model to the run."""
        return commands(self.model, self.prediction.settings, self.device)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values: bytes and seconds."""
        if self.proposal is None:
            return report.prediction_to_json(self.model, self.prediction, self.device)
        return report.proposal_to_json(self.model, self.proposal, self.device)

    def print(self, console: Any) -> None:
        """Print the plan to a console of rich."""
        if self.proposal is None:
            report.print_prediction(console, self.model, self.prediction, self.device)
        else:
            report.print_proposal(console, self.model, self.proposal, self.device)

    def _repr_html_(self) -> str:
        from toolkit.api.notebook import printed

        return printed(self.print)


def plan(
    model: str | PathLike[str],
    *,
    budget: int | str | None = None,
    device: str | Device | Connection | None = None,
    seq_len: int | None = None,
    rank: int | None = None,
    targets: str | Sequence[str] | None = None,
    rank_pattern: Mapping[str, int] | None = None,
    layers: str | None = None,
    lowering: str | None = None,
    sequences: int | None = None,
    threads: int | None = None,
    isa: str | None = None,
    say: Any = lambda line: None,
    **settings: Value,
) -> Plan:
    """Predict memory and time of a training step; with a budget, find settings that fit.

    Args:
        model: Bundle, recipe (name or path), hub id, .gguf file, or directory with config.json.
        budget: Memory to stay within: bytes, or text such as "100MB".
        device: A device to measure for five seconds; its free memory is then the budget.
        seq_len: Tokens of a sequence. `rank`, `targets`, `rank_pattern`, `layers` and `lowering`
            are as in `export`.
        sequences: Sequences of a step: batch size times accumulation.
        threads, isa: Of the device: their number, and one of `toolkit.choices.ISAS`.
        say: Called with what is being done.
        settings: Those of `TrainSettings` that memory or flash depend on: method, queries, blocks,
            optimizer, momentum, projection_rank, max_grad_norm, clipping, freeze, batch_size,
            arithmetic, checkpoints, state, keep_checkpoints. What is given here and above is kept;
            the rest may be changed to fit.

    Raises:
        ToolkitError: The model or a setting is not supported.

    Example:
        >>> plan = toolkit.plan("bundle", optimizer="sgd")
        >>> plan.fits, plan.peak_bytes > 1_000_000
        (True, True)
    """
    of_export: dict[str, Any] = {
        "seq_len": seq_len,
        "rank": rank,
        "targets": None if targets is None else parse_targets(targets),
        "rank_pattern": tuple(sorted((rank_pattern or {}).items())) or None,
        "layers": layers,
        "lowering": lowering,
    }
    if isinstance(device, Device):
        device = device.connection
    fixed = _fixed(of_export, settings, sequences)
    limit = parse_size(budget) if isinstance(budget, str) else budget
    say("reading the model")
    opened = open_model(fspath(model))
    planner = Planner(opened)
    asked = _settings(opened.settings, fixed)
    machine = _machine(device, threads, isa, asked.arithmetic, say)
    name = device if device is None or isinstance(device, str) else device.spec
    if limit is None and device is not None and machine.available:
        limit = machine.available
    if limit is None:
        return Plan(opened, planner.predict(asked, machine), device=name)
    say("trying settings")
    proposal = propose(planner, asked, machine, limit, set(fixed))
    return Plan(opened, proposal.best or proposal.smallest, proposal, name)


def _fixed(
    of_export: dict[str, Any], of_run: dict[str, Value], sequences: int | None
) -> dict[str, Any]:
    """Return what was given, by its name in `Settings`."""
    known = [row for row in SETTINGS if row.plan]
    checked = by_flag(of_run, known, "the plan")
    run = TrainSettings.of(checked, "the plan")
    if METHODS[run.method].updates:
        checked["optimizer"] = run.optimizer
    given = of_export | {row.name: checked.get(row.flag) for row in known}
    batch = given["batch_size"]
    if sequences is not None and sequences % (batch or 1):
        raise ToolkitError(f"{sequences} sequences are no multiple of the batch size {batch}")
    given["sequences"] = batch if sequences is None else sequences
    return {name: value for name, value in given.items() if value is not None}


def _settings(defaults: Settings, fixed: dict[str, Any]) -> Settings:
    if "targets" in fixed and fixed["targets"] != (ALL_LINEAR,):
        names = ("rank_pattern", "alpha_pattern")  # of targets that stay
        kept = {
            n: tuple(p for p in getattr(defaults, n) if p[0] in fixed["targets"]) for n in names
        }
        fixed = kept | fixed
    settings = replace(defaults, **fixed)
    if "rank" in fixed:
        settings = replace(settings, alpha=defaults.alpha * settings.rank / defaults.rank)
    return settings


def _machine(
    device: str | Connection | None,
    threads: int | None,
    isa: str | None,
    arithmetic: str,
    say: Any,
) -> Machine:
    machine = Machine()
    if device is not None:
        from toolkit.planning.measure import measure

        if isinstance(device, str):
            with open_device(device) as opened:
                machine = measure(opened, threads or 0, say, arithmetic=arithmetic)
        else:
            machine = measure(device, threads or 0, say, arithmetic=arithmetic)
    own = machine.kernels
    kernels = replace(own, isa=isa or own.isa, threads=threads or own.threads)
    return replace(machine, kernels=kernels)
