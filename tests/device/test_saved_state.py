"""The head of a run's resume state, as the engine writes it."""

import struct

import pytest

from toolkit.device.local import LocalDevice
from toolkit.device.saved_state import SavedState, read_saved_state
from toolkit.errors import ToolkitError

TEXT = b"step 12\nposition 24\nidentity data ab\nsetting lr 0.1\nsetting taken 8 c0ffee\n"


def state(text=TEXT, version=3, magic=b"TKSTATE\0"):
    return struct.pack("<8sII", magic, version, len(text)) + text + b"arrays" * 20_000


@pytest.fixture
def device(tmp_path):
    (tmp_path / "runs/r").mkdir(parents=True)
    with LocalDevice(tmp_path) as device:
        yield device


def test_steps_and_the_adapter_taken(device, tmp_path):
    assert read_saved_state(device, "r") is None
    path = tmp_path / "runs/r/state.bin"
    path.write_bytes(state())
    assert read_saved_state(device, "r") == SavedState(12, (8, "c0ffee"))
    path.write_bytes(state(b"step 0\nposition 0\n"))
    assert read_saved_state(device, "r") == SavedState(0, None)


@pytest.mark.parametrize(
    "content",
    [b"short", state(version=2), state(magic=b"OTHERONE"), state(b"position 1\n"), state(b"")],
    ids=["short", "version", "magic", "order", "empty"],
)
def test_what_it_cannot_be_is_said(device, tmp_path, content):
    (tmp_path / "runs/r/state.bin").write_bytes(content)
    with pytest.raises(ToolkitError, match=r"state.bin of run 'r'.* is damaged"):
        read_saved_state(device, "r")
