"""What is to be fine-tuned on what, and the single commands that it comes to."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.device.layout import check_name
from toolkit.settings.training import FLAGS, TrainSettings
from toolkit.tracking.tracker import Tracker


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A fine-tuning.

    Attributes:
        model: What `toolkit export` takes, or a bundle.
        files: What `toolkit data` takes.
        folder: Holds bundle, data and the runs that were pulled.
        settings: Of the run.
        device: Where it takes place.
        seq_len, rank, targets: As of the export; None leaves them to it.
        me, validation: As of the data; None leaves them to it.
        trackers: Where the steps of runs are shown.
    """

    model: str
    files: tuple[str, ...]
    folder: Path
    settings: TrainSettings
    device: str = "local"
    seq_len: int | None = None
    rank: int | None = None
    targets: str | None = None
    me: str | None = None
    validation: float | None = None
    trackers: Sequence[Tracker] = field(default=())

    @property
    def is_bundle(self) -> bool:
        """Whether the model is a bundle already, so that nothing is exported."""
        return (Path(self.model) / "manifest.json").is_file()

    @property
    def bundle(self) -> Path:
        return Path(self.model) if self.is_bundle else self.folder / "bundle"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def name(self) -> str:
        """What bundle, data and the first run are called on the device."""
        return check_name(slug(self.folder.resolve().name), "run")

    def run_name(self, number: int) -> str:
        """Return what the so many-th run is called on the device, from 1."""
        return self.name + _suffix(number)

    def run_folder(self, number: int) -> Path:
        """Return where that run is pulled to."""
        return self.folder / f"run{_suffix(number)}"

    @property
    def export_options(self) -> dict[str, Any]:
        """What was chosen of the export, by its flags."""
        return _given(seq_len=self.seq_len, rank=self.rank, targets=self.targets)

    @property
    def data_options(self) -> dict[str, Any]:
        """What was chosen of the data, by its flags."""
        # A bundle of another's making may have programs for longer sequences, too.
        own = self.seq_len if self.is_bundle else None
        return _given(seq_len=own, me=self.me, validation=self.validation)

    def export_words(self) -> list[str]:
        output = ["-o", str(self.bundle)]
        return ["toolkit", "export", self.model, *output, *_words(self.export_options)]

    def data_words(self) -> list[str]:
        where = ["--bundle", str(self.bundle), "-o", str(self.data)]
        return ["toolkit", "data", *self.files, *where, *_words(self.data_options)]

    def deploy_words(self) -> list[str]:
        where = ["--device", self.device, "--name", self.name]
        return ["toolkit", "deploy", str(self.bundle), "--data", str(self.data), *where]

    def run_trackers(self, number: int) -> list[Tracker]:
        """Return where the steps of that run are shown."""
        return [tracker.of_run(number) for tracker in self.trackers]

    def train_words(self, number: int) -> list[str]:
        settings = [
            word
            for flag, value in self.settings.flags().items()
            if value != FLAGS[flag].default
            for word in (f"--{flag}", str(value))
        ]
        what = ["--bundle", self.name, "--data", self.name]
        out = ["--out", self.run_name(number)]
        return [*self._train_where(), *what, *settings, *self._tracked(number), *out]

    def resume_words(self, number: int) -> list[str]:
        run = self.run_name(number)
        return [*self._train_where(), "--out", run, "--resume", *self._tracked(number)]

    def attach_words(self, number: int) -> list[str]:
        return [*self._train_where(), "--attach", self.run_name(number), *self._tracked(number)]

    def _train_where(self) -> list[str]:
        split = self.settings.method == "split"
        computer = ["--computer-bundle", str(self.bundle)] if split else []
        return ["toolkit", "train", "--device", self.device, *computer]

    def _tracked(self, number: int) -> list[str]:
        return [word for tracker in self.run_trackers(number) for word in tracker.words]

    def pull_words(self, number: int) -> list[str]:
        where = [self.run_name(number), "-o", str(self.run_folder(number))]
        return ["toolkit", "pull", "--device", self.device, *where]

    def analyze_words(self, number: int) -> list[str]:
        return ["toolkit", "analyze", str(self.run_folder(number))]


def slug(text: str) -> str:
    """Return what a model is called as it may name a folder, also on a device."""
    last = text.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
    short = re.sub(r"[^A-Za-z0-9._-]+", "-", last)
    return short[:56].strip("-._").lower() or "model"


def _suffix(number: int) -> str:
    return "" if number == 1 else f"-{number}"


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _words(options: dict[str, Any]) -> list[str]:
    found = options.items()
    return [w for name, value in found for w in (f"--{name.replace('_', '-')}", str(value))]
