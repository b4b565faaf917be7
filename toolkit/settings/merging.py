"""Settings that are given in several places."""

from collections.abc import Mapping

from toolkit.settings.declaration import Value
from toolkit.settings.methods import METHOD_OPTIONS
from toolkit.settings.optimizers import OPTIONS


def merged(base: Mapping[str, Value], over: Mapping[str, Value]) -> dict[str, Value]:
    """Return values by flag, those of `over` winning; a length replaces the other kind of length,
    another optimizer or method what the one before it read, and a constant schedule where another
    one ended.
    """
    given = {flag: value for flag, value in over.items() if value is not None}
    kept = dict(base)
    if {"steps", "epochs"} & given.keys():
        kept = {flag: value for flag, value in kept.items() if flag not in ("steps", "epochs")}
    if given.get("optimizer") not in (None, kept.get("optimizer", "adamw")):
        kept = {flag: value for flag, value in kept.items() if flag not in OPTIONS}
    if given.get("method") not in (None, kept.get("method", "exact")):
        kept = {
            f: v for f, v in kept.items() if f not in (*METHOD_OPTIONS, "optimizer", "momentum")
        }
    if given.get("schedule") == "constant":
        kept.pop("min-lr", None)
    return kept | given
