"""Settings of a run that contradict each other."""

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
