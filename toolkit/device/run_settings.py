"""What a run was started with: settings.json in its folder, names of flags and their values.

Beside every setting in effect it holds the run's name and random id, bundle and data with their
SHA-256, and the adapter it started from; `toolkit train --config` takes it, too. A resume proposes
its settings in settings.new.json with the size that the trace had; whether the trainer accepted
them is read from the trace, later and by anyone, so that neither a refused resume nor a lost
connection changes what the next one goes by.
"""

import json
from collections.abc import Iterable, Mapping

from toolkit.device.base import Device
from toolkit.device.layout import run_path
from toolkit.device.shell import quote
from toolkit.errors import ToolkitError
from toolkit.sealed_json import CHECKSUM, is_sealed, seal
from toolkit.settings.config import RUN_OWN
from toolkit.settings.declaration import Value

Settings = dict[str, Value]

SETTINGS = "settings.json"
_PROPOSED = "settings.new.json"
_OFFSET = "trace-offset"


def write_settings(device: Device, name: str, settings: Mapping[str, Value]) -> None:
    """Write the settings of a run that begins."""
    device.write(f"{run_path(device, name)}/{SETTINGS}", _encode(settings))


def propose_settings(
    device: Device, name: str, settings: Mapping[str, Value], trace_offset: int
) -> None:
    """Write the settings of a resume: they count once the trainer has accepted them."""
    proposed = {**settings, _OFFSET: trace_offset}
    device.write(f"{run_path(device, name)}/{_PROPOSED}", _encode(proposed))


def settle_settings(device: Device, name: str) -> None:
    """Let the settings of the last resume count if its trainer accepted them, else forget them."""
    path = run_path(device, name)
    proposed = parse_settings(device.read(f"{path}/{_PROPOSED}"))
    if proposed is None:
        return
    offset = proposed.pop(_OFFSET, 0)
    if _accepted(device, f"{path}/trace.jsonl", offset if isinstance(offset, int) else 0):
        write_settings(device, name, proposed)
    device.remove(f"{path}/{_PROPOSED}")


def _accepted(device: Device, trace: str, offset: int) -> bool:
    """Whether a trainer went to work that wrote the trace from `offset` on.

    One that refuses writes a run record and an end that failed, and nothing of work done.
    """
    part = f"tail -c +{offset + 1} {quote(trace)} 2>/dev/null"
    words = ('"type":"run"', '"type":"step"', '"event":"resumed"', '"status":"failed"')
    looks = [f"{part} | grep -q -F {quote(word)}; echo $?" for word in words]
    began, stepped, resumed, failed = (
        line == "0" for line in device.check("; ".join(looks), 900.0).split()
    )
    return began and (stepped or resumed or not failed)


def read_settings(device: Device, name: str, known: Iterable[str]) -> Settings:
    """Return what a run goes by: of the settings those of `known` names and the run's own.

    Raises:
        ToolkitError: They are not there or damaged; a run is never resumed with other settings.
    """
    settle_settings(device, name)
    content = device.read(f"{run_path(device, name)}/{SETTINGS}")
    settings = parse_settings(content)
    if settings is None:
        state = "damaged, or of an earlier version" if content else "missing"
        raise ToolkitError(
            f"{SETTINGS} of run {name!r} on device {device.spec} is {state}, so what the run was "
            "started with is not known",
            f"Start another run; `toolkit pull --device {device.spec} {name}` brings what it left",
        )
    wanted = {*known, *RUN_OWN}
    return {key: value for key, value in settings.items() if key in wanted}


def stored_settings(device: Device, name: str) -> Settings:
    """Return all of a run's settings to look at, none where they cannot be read."""
    return parse_settings(device.read(f"{run_path(device, name)}/{SETTINGS}")) or {}


def changes(old: Mapping[str, Value], new: Mapping[str, Value]) -> list[str]:
    """Return what a resume changes, as `lr 0.0005 -> 0.001`."""
    return [
        f"{flag} {old.get(flag, 'unset')} -> {value}"
        for flag, value in new.items()
        if value != old.get(flag)
    ]


def _encode(settings: Mapping[str, Value]) -> bytes:
    kept = {key: value for key, value in settings.items() if value is not None}
    return json.dumps(seal(kept), indent=1).encode()


def parse_settings(content: bytes) -> Settings | None:
    """Return settings, or None if this is no whole object of simple values."""
    try:
        settings = json.loads(content)
    except ValueError:
        return None
    if not isinstance(settings, dict) or not is_sealed(settings):
        return None
    del settings[CHECKSUM]
    simple = all(
        isinstance(value, str | int | float) and not isinstance(value, bool)
        for value in settings.values()
    )
    return settings if simple else None
