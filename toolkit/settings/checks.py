"""Settings of a run that contradict each other."""

import math
from collections.abc import Mapping

from toolkit.errors import ToolkitError
from toolkit.settings.declaration import Value
from toolkit.settings.methods import METHOD_OPTIONS, METHODS, UPDATES_AS
from toolkit.settings.optimizers import OPTIMIZERS, OPTIONS


def check_together(values: Mapping[str, Value], defaults: Mapping[str, Value]) -> None:
    """Refuse settings, each of which is in its range, that do not go together.

    Args:
        values, defaults: Of every setting, by flag.

    Raises:
        ToolkitError: Two contradict each other, or the method or optimizer does not read one.
    """
    given = {flag: value for flag, value in values.items() if value != defaults[flag]}
    _check_length_and_rate(given, values["lr"])
    _check_saving_and_clipping(given, values["clipping"])
    _check_readers(given, str(values["method"]), str(values["optimizer"]))
    if values["method"] == "split":
        _check_split(given)


def optimizer_of(method: str, optimizer: str) -> str:
    """Return the optimizer that a method goes with, the given one where it reads any."""
    return UPDATES_AS if METHODS[method].updates else optimizer


def reads_none(method: str, flag: str) -> ToolkitError:
    """Return the error for an option of an optimizer that a method does without."""
    return ToolkitError(
        f"--method {method} changes the adapter itself, as --optimizer {UPDATES_AS} would, and "
        f"reads no --{flag}",
        "Leave it away",
    )


def steps_of(epochs: float | None, samples: int | None, together: int) -> int:
    """Return the steps of so many epochs of `samples` sequences, `together` of them a step."""
    if epochs is None:
        raise ToolkitError("how long the run should be is not known", "Give --steps or --epochs")
    if not samples:
        raise ToolkitError(
            "how many sequences the data has is not known, so --epochs cannot be counted",
            "Give --steps, or make the data again",
        )
    # What is left over of a whole step counts as one: nothing of an epoch is left out.
    return max(1, math.ceil(epochs * samples / together - 1e-9))


def _check_length_and_rate(given: Mapping[str, Value], lr: Value) -> None:
    if {"steps", "epochs"} <= given.keys():
        raise ToolkitError("both --steps and --epochs are given", "Leave one away")
    if "min-lr" not in given:
        return
    if float(given["min-lr"] or 0) > float(lr or 0):
        raise ToolkitError("--min-lr is above --lr", "Choose a smaller one")
    if "schedule" not in given:
        raise ToolkitError("--min-lr is for --schedule linear or cosine", "Leave it away")


def _check_saving_and_clipping(given: Mapping[str, Value], clipping: Value) -> None:
    if "clipping" in given and "max-grad-norm" not in given:
        raise ToolkitError(
            f"--clipping {clipping} says how a norm is kept to, and none is given",
            "Give --max-grad-norm, too, or leave it away",
        )
    every = "Give the steps between two evaluations, as --eval-every 50"
    if "patience" in given and not given.get("eval-every"):
        raise ToolkitError("--patience needs --eval-every", every)
    if "keep" in given and "eval-every" not in given:
        raise ToolkitError("--keep best goes by held-out loss and needs --eval-every", every)


def _check_split(given: Mapping[str, Value]) -> None:
    """Refuse what a device cannot do that has no layers above the cut."""
    below = f"0-{int(given.get('cut') or 1) - 1}"
    if given.get("layers", below) != below:
        raise ToolkitError(
            "--method split trains all layers, those below --cut on the device",
            "Leave --layers away",
        )
    if "eval-every" in given:
        raise ToolkitError(
            "--method split evaluates nothing: the device has no layers above --cut",
            "Leave --eval-every away and evaluate the run with `toolkit evaluate`",
        )


def _check_readers(given: Mapping[str, Value], method: str, optimizer: str) -> None:
    for own in METHOD_OPTIONS:
        if own in given and own not in METHODS[method].options:
            raise ToolkitError(f"--{own} is not an option of --method {method}", "Leave it away")
    if METHODS[method].updates:
        if "optimizer" in given and optimizer != UPDATES_AS:
            raise reads_none(method, "optimizer")
        if given.get("momentum"):
            raise reads_none(method, "momentum")
    for own in OPTIONS:
        if own in given and own not in OPTIMIZERS[optimizer_of(method, optimizer)].options:
            raise ToolkitError(
                f"--{own} is not an option of --optimizer {optimizer}", "Leave it away"
            )
