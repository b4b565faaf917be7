"""Answers what the trainer of a split run asks, for as long as the run is watched."""

import io
import posixpath
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from toolkit.bundle.bundle import Bundle
from toolkit.device import open_device
from toolkit.device.base import Device
from toolkit.device.contents import checked_files
from toolkit.device.errors import DeviceCommandError, DeviceLost
from toolkit.device.kept import SPLIT, computer_state, find_computer_states
from toolkit.device.layout import run_path
from toolkit.device.run_settings import read_settings, stored_settings
from toolkit.device.runs import Run
from toolkit.device.shell import quote
from toolkit.device.training import require_second_connection
from toolkit.device.transfer import digest
from toolkit.errors import ToolkitError
from toolkit.settings.training import FLAGS, SETTINGS, TrainSettings
from toolkit.splitting.questions import (
    Question,
    answer_failed,
    answer_save,
    answer_step,
    parse_question,
)
from toolkit.splitting.upper import UpperLayers

METHOD = SPLIT
_LOOKS = 300  # of one command, 10 ms apart
_RETRY, _PATIENCE, _PAUSE = 2.0, 20.0, 0.01  # seconds


class _Unknown(ToolkitError):
    """The state of the upper layers after the device's step is not known here."""


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
        self.bundle = bundle
        self._bundle = Bundle.open(bundle)
        self._sha256 = digest(checked_files(bundle, "bundle"))
        self._ended = threading.Event()
        self._upper: dict[str, UpperLayers] = {}  # by the run's device and name
        self.error: ToolkitError | None = None  # why nothing is answered any more
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
            ToolkitError: The run is no split one, or was started with another bundle.
        """
        require_second_connection(device)
        stored = stored_settings(device, run)
        if stored.get("method") != METHOD:
            raise ToolkitError(f"run {run!r} is no split one", "Leave --computer-bundle away")
        if stored.get("bundle-sha256") != self._sha256:
            raise ToolkitError(
                f"{self.bundle} is not the bundle that run {run!r} was started with",
                "Give that one with --computer-bundle; the run waits for it",
            )
        self._ended.clear()
        self.error = None
        thread = threading.Thread(target=self._serve, args=(device.spec, run), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            with suppress(ToolkitError):
                self._leave(device, run)

    def _leave(self, device: Device, run: str) -> None:
        """Keep what is known of a run that goes on, for whoever computes its upper layers next."""
        upper = self._upper.get(f"{device.spec} {run}")
        if upper is None or Run(device, run).status() != "running":
            return
        for state, step in upper.states():
            _keep(device, f"{run_path(device, run)}/{METHOD}", step, state)

    def _upper_layers(self, device: Device, run: str) -> UpperLayers:
        # What a resume changed counts by now: the trainer has accepted it.
        stored: dict[str, Any] = dict(read_settings(device, run, FLAGS))
        own = {known.flag: stored[known.flag] for known in SETTINGS if known.flag in stored}
        settings = TrainSettings.of(own).effective()
        with TemporaryDirectory() as folder:
            adapter = None
            if stored.get("adapter") is not None:
                adapter = Path(folder) / "adapter.ptd"
                _pull(device, str(stored["adapter"]), adapter)
            return UpperLayers(self._bundle, settings, adapter)

    def _serve(self, spec: str, run: str) -> None:
        """Answer until the end; what is wrong with the device for long is told by `error`."""
        since = time.monotonic()
        while not self._ended.is_set():
            answered = self.steps
            try:
                with open_device(spec) as device:
                    self._answer_all(device, run)
            except _Unknown as error:
                self.error = error
                return
            except ToolkitError as error:
                if self.steps > answered:
                    since = time.monotonic()
                if time.monotonic() - since > _PATIENCE:
                    self.error = error
                    return
                self._ended.wait(_RETRY)

    def _answer_all(self, device: Device, run: str) -> None:
        folder = f"{run_path(device, run)}/{METHOD}"
        while not self._ended.is_set():
            question = _next_question(device, folder)
            if question is None:
                self._ended.wait(_PAUSE)
                continue
            try:
                answer = self._answer(device, run, folder, question)
            except (DeviceLost, DeviceCommandError, _Unknown):
                raise
            except Exception as error:  # the run has to end, whatever it was
                cause = error.cause if isinstance(error, ToolkitError) else repr(error)
                answer = answer_failed(question, f"the computer's part failed: {cause}")
            _publish(device, f"{folder}/answer", answer)

    def _answer(self, device: Device, run: str, folder: str, question: Question) -> bytes:
        key = f"{device.spec} {run}"
        if key not in self._upper:
            self._upper[key] = self._upper_layers(device, run)
        upper = self._upper[key]
        after = question.step if question.rows is None else question.step - 1
        if not upper.reaches(after):
            upper.load(_kept_state(device, folder, after))
        if question.rows is None:
            values = upper.values(question)
            _keep(device, folder, question.step, upper.state())
            device.check("sync")  # as what the trainer saves is
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
    path = f"{folder}/{computer_state(step)}"
    found = device.stat(path)
    if found is None:
        raise _Unknown(
            f"the run is at step {step}, and what a computer knew of its upper layers is gone",
            "Stop it with `toolkit stop` and go on from its last save: toolkit train --resume",
        )
    return device.read(path, limit=found.size)


def _forget_older(device: Device, folder: str, step: int) -> None:
    """Keep this state and the one before, which the device goes on from if it does not save now."""
    kept = [found.step for found in find_computer_states(device, posixpath.dirname(folder))]
    before = [known for known in kept if known <= step]
    for gone in [*before[:-2], *(known for known in kept if known > step)]:
        device.remove(f"{folder}/{computer_state(gone)}")


def _keep(device: Device, folder: str, step: int, state: bytes) -> None:
    _publish(device, f"{folder}/{computer_state(step)}", state)


def _publish(device: Device, path: str, content: bytes) -> None:
    """Have a file appear whole, whoever else writes it."""
    temporary = f"{path}.{uuid.uuid4().hex[:12]}"
    device.append(temporary, io.BytesIO(content), len(content), lambda _: None)
    device.rename(temporary, path)


def _pull(device: Device, source: str, target: Path) -> None:
    found = device.stat(source)
    if found is None:
        raise ToolkitError(f"the adapter that the run started from is gone from {device.spec}")
    with target.open("wb") as sink:
        device.pull(source, sink, 0, found.size, lambda _: None)
