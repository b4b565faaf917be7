"""Answers what the trainer of a split run asks, for as long as the run is watched."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from toolkit.bundle.bundle import Bundle
from toolkit.device import open_device
from toolkit.device.base import Device
from toolkit.device.contents import checked_files
from toolkit.device.errors import DeviceCommandError, DeviceLost
from toolkit.device.layout import run_path
from toolkit.device.run_settings import stored_settings
from toolkit.device.shell import quote
from toolkit.device.transfer import digest
from toolkit.errors import ToolkitError
from toolkit.settings.training import SETTINGS, TrainSettings
from toolkit.splitting.questions import (
    Question,
    answer_failed,
    answer_save,
    answer_step,
    parse_question,
)
from toolkit.splitting.upper import UpperLayers

METHOD = "split"
_LOOKS = 300  # of one command, 10 ms apart
_KEPT = "computer-"
_RETRY = 2.0  # seconds


class Serving:
    """A computer's part of a split run.

    Attributes:
        steps: Steps that were answered.
        up, down: Bytes of hidden states and of gradients that these took, in all.
    """

    def __init__(self, bundle: Path) -> None:
        """Serve with the bundle at `bundle`, which has to be the deployed one.

        Raises:
            ToolkitError: It is none, or is damaged.
        """
        self._bundle = Bundle.open(bundle)
        self._sha256 = digest(checked_files(bundle, "bundle"))
        self._ended = threading.Event()
        self.steps = self.up = self.down = 0

    @property
    def bytes_words(self) -> str:
        """What a step took of the connection, for people."""
        up, down = self.up / self.steps / 1e6, self.down / self.steps / 1e6
        return f"{up:.2f} MB up and {down:.2f} MB down a step"

    @contextmanager
    def serving(self, device: Device, run: str) -> Iterator[None]:
        """Answer the run within the block, over a connection of its own.

        Raises:
            ToolkitError: The run was started with another bundle.
        """
        self._ended.clear()
        upper = self._upper_layers(device, run)
        thread = threading.Thread(target=self._serve, args=(device.spec, run, upper), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _upper_layers(self, device: Device, run: str) -> UpperLayers:
        stored: dict[str, Any] = dict(stored_settings(device, run))
        if stored.get("bundle-sha256") != self._sha256:
            raise ToolkitError(
                f"{self._bundle.path} is not the bundle that run {run!r} was started with",
                "Give that one with --computer-bundle; the run waits for it",
            )
        own = {known.flag: stored[known.flag] for known in SETTINGS if known.flag in stored}
        settings = TrainSettings.of(own).effective()
        with TemporaryDirectory() as folder:
            adapter = None
            if stored.get("adapter") is not None:
                adapter = Path(folder) / "adapter.ptd"
                _pull(device, str(stored["adapter"]), adapter)
            return UpperLayers(self._bundle, settings, adapter)

    def _serve(self, spec: str, run: str, upper: UpperLayers) -> None:
        while not self._ended.is_set():
            try:
                with open_device(spec) as device:
                    self._answer_all(device, f"{run_path(device, run)}/{METHOD}", upper)
            except (DeviceLost, DeviceCommandError):
                self._ended.wait(_RETRY)  # whoever watches says what is wrong with the device

    def _answer_all(self, device: Device, folder: str, upper: UpperLayers) -> None:
        while not self._ended.is_set():
            question = _next_question(device, folder)
            if question is None:
                continue
            try:
                answer = self._answer(device, folder, upper, question)
            except (DeviceLost, DeviceCommandError):
                raise
            except Exception as error:  # the run has to end, whatever it was
                cause = error.cause if isinstance(error, ToolkitError) else repr(error)
                answer = answer_failed(question, f"the computer's part failed: {cause}")
            device.write(f"{folder}/answer", answer)

    def _answer(self, device: Device, folder: str, upper: UpperLayers, question: Question) -> bytes:
        after = question.step if question.rows is None else question.step - 1
        if not upper.reaches(after):
            upper.load(_kept_state(device, folder, after))
        if question.rows is None:
            values = upper.values(question)
            device.write(f"{folder}/{_KEPT}{question.step}.pt", upper.state())
            _forget_older(device, folder, question.step)
            return answer_save(question, values)
        assert question.hidden is not None
        loss, squares, gradient = upper.answer(question)
        self.steps += 1
        self.up += question.hidden.nbytes + 3 * question.rows.labels.nbytes
        self.down += gradient.nbytes
        return answer_step(question, loss, squares, gradient)


def _next_question(device: Device, folder: str) -> Question | None:
    """Return what is asked, as soon as it is; None where nothing was for some seconds."""
    ask, answer = quote(f"{folder}/ask"), quote(f"{folder}/answer")
    command = (
        f"i=0; while [ $i -lt {_LOOKS} ]; do "
        f"if [ -f {ask} ] && [ ! -f {answer} ]; then cat {ask} 2>/dev/null; exit 0; fi; "
        "sleep 0.01; i=$((i+1)); done"
    )
    return parse_question(b"".join(device.stream(command)))


def _kept_state(device: Device, folder: str, step: int) -> bytes:
    """Return what was kept with the save after a step."""
    path = f"{folder}/{_KEPT}{step}.pt"
    found = device.stat(path)
    if found is None:
        raise ToolkitError(
            f"the upper layers' part of step {step} is not in the run",
            "Start the run anew",
        )
    return device.read(path, limit=found.size)


def _forget_older(device: Device, folder: str, step: int) -> None:
    """Keep this state and the one before, which the device goes on from if it does not save now."""
    kept = {
        int(name.removeprefix(_KEPT).removesuffix(".pt")): name
        for entry in device.list(folder)
        if (name := PurePosixPath(entry.path).name).startswith(_KEPT) and name.endswith(".pt")
    }
    for older in sorted(kept)[:-2]:
        if older < step:
            device.remove(f"{folder}/{kept[older]}")


def _pull(device: Device, source: str, target: Path) -> None:
    found = device.stat(source)
    if found is None:
        raise ToolkitError(f"the adapter that the run started from is gone from {device.spec}")
    with target.open("wb") as sink:
        device.pull(source, sink, 0, found.size, lambda _: None)
