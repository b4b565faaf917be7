"""Devices as places to train: what is sent there, and the runs that take place."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

from toolkit.api.runs import TrainingRun
from toolkit.device import Device as Connection
from toolkit.device import open_device as connection_to
from toolkit.device import training
from toolkit.device.contents import check_tokenizer, checked_files
from toolkit.device.info import DeviceInfo
from toolkit.device.layout import bundle_path, check_name, data_path
from toolkit.device.runs import Run, attach
from toolkit.device.runtime import Runtime, deploy_runtime, runtime_folder
from toolkit.device.session import Session
from toolkit.device.transfer import LocalFile, Progress, Report, push_folder
from toolkit.settings.declaration import Value, by_flag
from toolkit.settings.training import SETTINGS, TrainSettings
from toolkit.tracking.feed import Feed
from toolkit.tracking.tracker import Tracker

Bars = Callable[[str], AbstractContextManager[Progress]]
"""From what is sent to a context that yields what its progress is told to."""

_log = logging.getLogger("toolkit")


@contextmanager
def no_bars(what: str) -> Iterator[Progress]:
    """Show nothing."""
    yield lambda name, done, total: None


@dataclass(frozen=True)
class Deployment:
    """What a device has now.

    Attributes:
        device: What the device says of itself.
        runtime: The trainer's folder on it, None if the app brings its own.
        bundle, data: Their names on it.
        transfers: Bytes sent and not sent, by "bundle" and "data".
    """

    device: DeviceInfo
    runtime: str | None
    bundle: str
    data: str | None
    transfers: dict[str, Report]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        transfers = {what: vars(report) for what, report in self.transfers.items()}
        return vars(self) | {"device": self.device.to_json(), "transfers": transfers}


class Device:
    """This machine or a phone; `with` connects it.

    Attributes:
        connection: Files and commands on it (`toolkit.device.Device`).
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __enter__(self) -> Self:
        self.connection.connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self.connection.close()

    def __repr__(self) -> str:
        return f"Device({self.connection.spec!r})"

    def info(self) -> DeviceInfo:
        """Return model, ABI, memory (KiB), free space (bytes) and battery of the device."""
        return self.connection.info()

    def deploy(
        self,
        bundle: str | PathLike[str],
        data: str | PathLike[str] | None = None,
        *,
        name: str | None = None,
        with_runtime: bool = True,
        bars: Bars = no_bars,
    ) -> Deployment:
        """Copy runtime, bundle and data to the device; what it has already is not sent again.

        Args:
            bundle: What `export` wrote.
            data: What `prepare_data` wrote.
            name: Of both on the device; their own otherwise.
            with_runtime: False for the Android app, which brings its own.
            bars: Shows the progress of transfers.

        Raises:
            ToolkitError: Something is damaged or does not belong together, and nothing was sent; or
                a part does not fit, and what comes before it was sent. DeviceLost: the same call
                goes on where it stopped.
        """
        return self.send(checked_cargo(bundle, data, name), with_runtime=with_runtime, bars=bars)

    def send(
        self, cargo: "Mapping[str, Cargo]", *, with_runtime: bool = True, bars: Bars = no_bars
    ) -> Deployment:
        """Do what `deploy` does with what was checked before."""
        info = self.connection.info()
        runtime = self._send_runtime(info.abi, bars) if with_runtime else None
        transfers = {}
        for what, each in cargo.items():
            with bars(f"{what} {each.name}") as progress:
                target = each.place(self.connection, each.name)
                transfers[what] = push_folder(
                    self.connection, each.files, target, progress=progress
                )
        names = {what: each.name for what, each in cargo.items()}
        path = runtime.path if runtime else None
        return Deployment(info, path, names["bundle"], names.get("data"), transfers)

    def _send_runtime(self, abi: str, bars: Bars) -> Runtime:
        with bars("runtime") as progress:
            folder = runtime_folder(self.connection, abi)
            return deploy_runtime(self.connection, folder, abi, progress)

    def train(
        self,
        name: str,
        settings: TrainSettings,
        *,
        bundle: str | None = None,
        data: str | None = None,
        adapter: str | PathLike[str] | None = None,
        until: int | None = None,
        trackers: Sequence[Tracker] = (),
        say: Callable[[str], None] = _log.warning,
    ) -> TrainingRun:
        """Start a run, which goes on by itself, and return it.

        Args:
            name: What it is called on the device.
            settings: Its settings.
            bundle: Name of a bundle on the device; None: the last sent. So is `data`.
            adapter: What to start from instead of the bundle's: a folder that peft saved or `pull`
                brought, or an adapter .ptd.
            until: Save and end the session after so many of the run's steps; `resume` goes on.
            trackers: Where its steps are shown: `CsvFile`, `TensorBoard`, `Wandb`.
            say: Called with warnings.

        Raises:
            ToolkitError: The name is taken, something is missing, or does not belong together.

        Example:
            >>> with toolkit.open_device("local") as device:
            ...     settings = toolkit.TrainSettings(steps=2)
            ...     tracker = toolkit.CsvFile("steps.csv")
            ...     run = device.train("tracked", settings, trackers=[tracker]).wait()
            >>> print(open("steps.csv").readline().partition(",learning_rate")[0])
            step,time_unix,loss
        """
        feed = Feed(check_name(name, "run"), trackers)
        feed.require_free()
        run = training.begin(
            self.connection,
            name,
            settings,
            bundle=bundle,
            data=data,
            adapter=None if adapter is None else Path(adapter),
            until=until,
            say=say,
        )
        return TrainingRun(run, began=True, feed=feed)

    def estimate(
        self, settings: TrainSettings, *, bundle: str | None = None, data: str | None = None
    ) -> float | None:
        """Return about how many seconds a run's steps will take, before it begins.

        Args:
            settings: Of the run.
            bundle, data: Their names on the device; None: the last sent.

        Returns:
            None unless `plan(device=...)` has measured this device.
        """
        from toolkit.planning.estimate import run_seconds

        return run_seconds(self.connection, settings, bundle, data)

    def resume(
        self,
        name: str,
        *,
        bundle: str | None = None,
        data: str | None = None,
        until: int | None = None,
        take_adapter: str | PathLike[str] | None = None,
        take_at: int | None = None,
        trackers: Sequence[Tracker] = (),
        say: Callable[[str], None] = _log.warning,
        **changes: Value,
    ) -> TrainingRun:
        """Continue a run where it was saved.

        Args:
            name: Its name on the device.
            bundle, data: Their names there if they were deployed again under others.
            until: Save and end the session after so many of the run's steps.
            take_adapter: Go on with this adapter in place of the saved one, named as `train` takes
                one; what the optimizer remembers and the place in the data stay.
            take_at: The step after which it is taken, if not the saved one: a run that took it
                there and is further goes on as it is.
            trackers: Where its steps are shown; those that show it already go on there.
            say: Called with what changes.
            changes: Settings, by their names in `TrainSettings`, that are to be others from now on.

        Raises:
            ToolkitError: There is no such run, it still goes on, or bundle or data are others.
        """
        changed = by_flag(changes, SETTINGS, "the call")
        places = {"bundle": bundle, "data": data}
        session = Session(until, take_adapter, take_at)
        feed = Feed(check_name(name, "run"), trackers)
        if feed:
            feed.require_same(Run(self.connection, name).history(whole=True))
        run = training.resume(self.connection, name, changed, **places, session=session, say=say)
        return TrainingRun(run, feed=feed)

    def run(self, name: str, *, trackers: Sequence[Tracker] = ()) -> TrainingRun:
        """Return a run that is on the device, from its first step on.

        Args:
            name: Its name there.
            trackers: Where its steps are shown; those that show it already are brought up to date.

        Raises:
            ToolkitError: There is none of this name.
        """
        feed = Feed(check_name(name, "run"), trackers)
        return TrainingRun(attach(self.connection, name), feed=feed)


class Cargo:
    """A folder to send, held against its own digests, and its name on the device."""

    def __init__(
        self, folder: Path, what: str, name: str | None, place: Callable[[Connection, str], str]
    ) -> None:
        self.files: list[LocalFile] = checked_files(folder, what)
        self.name = check_name(name or folder.resolve().name, what)
        self.place = place


def checked_cargo(
    bundle: str | PathLike[str], data: str | PathLike[str] | None, name: str | None
) -> dict[str, Cargo]:
    """Return a bundle, and data for it, ready to be sent; needs no device.

    Raises:
        ToolkitError: One is damaged, or they do not belong together.
    """
    cargo = {"bundle": Cargo(Path(bundle), "bundle", name, bundle_path)}
    if data is not None:
        cargo["data"] = Cargo(Path(data), "data set", name, data_path)
        check_tokenizer(Path(bundle), Path(data))
    return cargo


def open_device(spec: str = "local") -> Device:
    """Return a device; `with` connects it.

    Args:
        spec: "local" for this machine, a folder ("./lab" or a whole path) for this machine with
            bundles, data and runs of its own, a phone's serial, or HOST:PORT.

    Raises:
        ToolkitError: It is nothing of these, or (when it is connected) cannot be reached.

    Example:
        >>> with toolkit.open_device("local") as device:
        ...     print(device.info().kind)
        local
    """
    return Device(connection_to(spec))
