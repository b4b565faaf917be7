"""`toolkit train --atrace`: the phone's own system trace for as long as the run is watched."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.cli.common import error_console
from toolkit.device import Device
from toolkit.device.layout import check_name
from toolkit.device.system_trace import Recording, begin_recording, end_recording
from toolkit.errors import ToolkitError


@contextmanager
def system_trace(device: Device, name: str | None, wanted: bool) -> Iterator[None]:
    """Record within the block if `wanted`; a device that cannot gets a line, and the run goes on.

    The trace comes here however the block ends; a failure to bring it does not hide another error.
    """
    if not wanted or name is None:
        yield
        return
    recording = begin_recording(device, check_name(name, "run"))
    if isinstance(recording, str):
        _say(f"no system trace: {recording}")
        yield
        return
    try:
        yield
    finally:
        _finish(recording, Path("runs") / name)


def _finish(recording: Recording, beside: Path) -> None:
    try:
        path = end_recording(recording, beside)
    except (ToolkitError, OSError) as error:
        _say(f"no system trace: {getattr(error, 'cause', error)}")
        return
    _say(f"system trace: {path} (open it in ui.perfetto.dev)")


def _say(line: str) -> None:
    error_console.print(line, markup=False, highlight=False, soft_wrap=True)
