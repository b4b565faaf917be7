"""What a person sees of a run."""

from toolkit.cli.train_watch import BarView
from toolkit.device.local import LocalDevice
from toolkit.device.runs import Run


def test_a_run_that_waits_for_storage_says_so(tmp_path, capsys):
    view = BarView(Run(LocalDevice(tmp_path), "a"), 9)
    cause = "cannot write /runs/a/state.bin: No space left on device"
    view.record({"type": "event", "t": 1, "event": "saved", "detail": "step 1"})
    view.record({"type": "event", "t": 2, "event": "waiting_for_storage", "detail": cause})
    assert capsys.readouterr().err == (
        f"waiting to save until there is room on the device: {cause}\n"
    )
