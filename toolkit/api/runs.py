"""A run on a device: its steps as they come, and what it brings back."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.device.fetch import Progress, pull_run
from toolkit.device.pulled_check import check_pulled
from toolkit.device.runs import Run
from toolkit.device.watching import Watching, number, whole
from toolkit.errors import ToolkitError
from toolkit.settings.config import read_config
from toolkit.settings.training import SETTINGS, TrainSettings
from toolkit.tracking.feed import Feed

if TYPE_CHECKING:
    from toolkit.trace.analysis import Analysis


def _nowhere(name: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    Attributes:
        step: Its number, from 1.
        loss: Mean over the step's labelled tokens before its update, in nats.
        learning_rate: Of this step.
        grad_norm: Global norm of the gradients before clipping.
        tokens: Tokens that were computed, padding included.
        labelled: Tokens that the loss is the mean of.
        seconds: Wall time.
        peak_bytes: Highest resident memory of the trainer within the step, by the kernel.
    """

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    labelled: int
    seconds: float
    peak_bytes: int

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Step":
        """Return the step of a trace's record; what it does not tell is NaN or 0."""
        loss, rate, norm, seconds = (
            number(record.get(name)) for name in ("loss", "lr", "grad_norm", "seconds")
        )
        counts = (whole(record.get(name)) or 0 for name in ("step", "tokens", "labelled", "peak"))
        step, tokens, labelled, peak = counts
        return cls(step, loss, rate, norm, tokens, labelled, seconds, peak * 1024)


@dataclass(frozen=True)
class Evaluation:
    """Mean loss on the held-out data after `step`, in nats per token, and its exponential."""

    step: int
    loss: float
    perplexity: float


class TrainingRun:
    """A run that goes on by itself on a device; iterating shows its steps as they come.

    Losing the connection, or leaving the loop, does not end the run. While it is iterated, its
    trackers get every step, once.

    Attributes:
        name: Its name on the device.
        evaluations: What was measured on held-out data so far.
        status: "running", "completed", "stopped" or "failed"; looks at the device until iterating
            has come to the end.
        watching: The trace's records as they come, for who shows more than steps.
    """

    def __init__(self, run: Run, *, began: bool = False, feed: Feed | None = None) -> None:
        self.device_run = run
        self.name = run.name
        self.evaluations: list[Evaluation] = []
        self.watching = Watching(run, began=began, feed=feed)

    def __iter__(self) -> Iterator[Step]:
        """Yield steps until the run ends.

        Raises:
            ToolkitError: The trainer failed or died, or the connection broke.
        """
        end = self.watching.end
        for record in self.watching if end is None or end.get("status") == "failed" else ():
            if record is not None and record["type"] == "step":
                yield Step.of(record)
            elif record is not None and record["type"] == "evaluation":
                loss, perplexity = number(record.get("loss")), number(record.get("perplexity"))
                step = whole(record.get("step")) or 0
                self.evaluations.append(Evaluation(step, loss, perplexity))

    @property
    def status(self) -> str:
        end = self.watching.end
        return self.device_run.status() if end is None else str(end.get("status"))

    @property
    def reason(self) -> str:
        """Why it was completed before its last step, empty if it was not."""
        return str((self.watching.end or {}).get("reason") or "")

    @property
    def peak_bytes(self) -> int:
        """Highest resident memory so far, bytes."""
        return int(self.watching.peak_bytes)

    def wait(self) -> "TrainingRun":
        """Wait until the run has ended.

        Raises:
            ToolkitError: As iterating does.
        """
        for _ in self:
            pass
        return self

    def with_computer(self, bundle: str | PathLike[str]) -> "TrainingRun":
        """Compute the upper layers of a split run here while it is iterated, and return it.

        Args:
            bundle: The folder that was deployed, on this machine.

        Raises:
            ToolkitError: It is no bundle, or is damaged.
        """
        from toolkit.splitting.serving import Serving

        self.watching.computer = Serving(Path(bundle))
        return self

    def stop(self) -> None:
        """Ask the run to save and end before or after the current step; it can be resumed."""
        self.watching.request_stop()

    def pull(
        self,
        folder: str | PathLike[str],
        *,
        with_state: bool = False,
        progress: Progress = _nowhere,
    ) -> "Result":
        """Bring trace, settings and adapter back; of a run that goes on what there is by now.

        Args:
            folder: What to write. One that holds the same run is brought up to date.
            with_state: Bring what `resume` needs, too.
            progress: Called with a file's name, bytes done and bytes in all.

        Raises:
            ToolkitError: The folder holds something else, or a file arrives damaged.
        """
        from toolkit.exchange.card import write_run_card

        run = self.device_run
        pulled = pull_run(
            run.device, run.name, Path(folder), with_state=with_state, progress=progress
        )
        check_pulled(Path(folder), run.name, run.device)
        write_run_card(Path(folder))
        return Result(Path(folder), pulled.files, pulled.left, pulled.best_step)

    def __repr__(self) -> str:
        try:
            status = self.status
        except ToolkitError:  # a lost connection is no reason to show nothing
            status = "out of reach"
        return f"TrainingRun({self.name!r} on {self.device_run.device.spec}, {status})"


@dataclass(frozen=True)
class Result:
    """What a run brought to this machine.

    Attributes:
        path: The folder.
        files: Sizes in bytes by name.
        left: Names of what stayed on the device.
        best_step: Step of the adapter, where the run keeps the best on held-out data; None where
            the adapter is the last.
    """

    path: Path
    files: dict[str, int]
    left: list[str]
    best_step: int | None = None

    @cached_property
    def analysis(self) -> "Analysis":
        """Where memory and time went, from the run's trace."""
        from toolkit.trace.analysis import read_analysis

        return read_analysis(self.path)

    @property
    def adapter_path(self) -> Path | None:
        """The folder to load with `peft`; None while the run has saved no adapter."""
        return self.path if "adapter_model.safetensors" in self.files else None

    @property
    def checkpoints(self) -> dict[int, Path]:
        """Folders of the adapters of earlier saves (`keep_checkpoints`), by step."""
        names = (Path(name) for name in self.files if name.startswith("checkpoints/"))
        found = {
            int(name.parent.name.removeprefix("step-")): self.path / name.parent for name in names
        }
        return dict(sorted(found.items()))

    @property
    def settings(self) -> TrainSettings:
        """The settings that were in effect."""
        found = read_config(self.path / "settings.json")
        own = {known.flag: found[known.flag] for known in SETTINGS if known.flag in found}
        return TrainSettings.of(own)

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        return self.analysis._repr_html_()
