"""The steps from model and data to an adapter."""

from pathlib import Path

from toolkit.api.devices import Cargo, Device, checked_cargo, open_device
from toolkit.api.making import export
from toolkit.api.preparing import prepare_data
from toolkit.api.runs import Result, TrainingRun
from toolkit.bundle.manifest import read_manifest
from toolkit.device.contents import read_manifest as read_facts
from toolkit.device.layout import read_marker
from toolkit.device.runtime import check_version, find_runtime
from toolkit.device.training import sequences_of
from toolkit.device.transfer import digest
from toolkit.errors import ToolkitError
from toolkit.finetuning.inputs import Record, data_inputs, export_inputs, require_files
from toolkit.finetuning.runs import (
    Found,
    Identity,
    State,
    identity_of,
    pulled_run,
    run_on_device,
)
from toolkit.finetuning.shown import Shown
from toolkit.finetuning.wish import Wish
from toolkit.settings.training import TrainSettings
from toolkit.tracking.pulled import track_pulled

_SAME = "nothing has changed"


class Unfinished(ToolkitError):
    """Who watched the run stopped it, or left it to itself."""


class Finetuning:
    """Takes every step whose inputs have changed since it was taken last."""

    def __init__(self, wish: Wish, shown: Shown) -> None:
        self.wish, self.shown = wish, shown
        self._record = Record(wish.folder)

    def run(self) -> Result:
        """Return what the run brought here.

        Raises:
            ToolkitError: A step failed, or the run has not ended; the same call goes on there.
        """
        wish = self.wish
        require_files(wish)
        self._export()
        self._prepare()
        cargo = checked_cargo(wish.bundle, wish.data, wish.name)
        facts = read_facts(wish.data, "data set")
        settings = wish.settings.for_samples(sequences_of(facts)).effective()
        digests = {what: digest(each.files) for what, each in cargo.items()}
        identity = identity_of(settings, digests["bundle"], digests["data"])
        found = pulled_run(wish, identity)
        if found is None:
            found = self._on_device(cargo, digests, settings, identity)
        else:
            self._skip(wish.deploy_words())
            self._skip(wish.train_words(found.number))
            self._skip(wish.pull_words(found.number))
        if found.state is State.COMPLETED:  # nobody watched its end, or not with these trackers
            number = found.number
            run, trackers = wish.run_name(number), wish.run_trackers(number)
            track_pulled(wish.run_folder(number), run, trackers)
        return self._analyze(found.number)

    def _skip(self, words: list[str], reason: str = _SAME) -> None:
        self.shown.step(words, reason, skipped=True)

    def _export(self) -> None:
        wish, part = self.wish, "bundle"
        if wish.is_bundle:
            return
        manifest, inputs = wish.bundle / "manifest.json", export_inputs(wish)
        reason = self._record.reason(part, inputs, manifest)
        if not reason:
            return self._skip(wish.export_words())
        self.shown.step(wish.export_words(), reason, skipped=False)
        lengths = None if wish.seq_len is None else [wish.seq_len]
        with self.shown.exporting() as progress:
            bundle = export(
                wish.model,
                wish.bundle,
                seq_lens=lengths,
                rank=wish.rank,
                targets=wish.targets,
                progress=progress,
            )
        self._record.note(part, inputs, manifest)
        self.shown.exported(bundle)

    def _prepare(self) -> None:
        wish, part = self.wish, "data"
        manifest = wish.data / "data.json"
        inputs = data_inputs(wish, read_manifest(wish.bundle))
        reason = self._record.reason(part, inputs, manifest)
        if not reason:
            return self._skip(wish.data_words())
        self.shown.step(wish.data_words(), reason, skipped=False)
        with self.shown.preparing() as progress:
            data = prepare_data(
                wish.files,
                bundle=wish.bundle,
                output=wish.data,
                progress=progress,
                **wish.data_options,
            )
        self._record.note(part, inputs, manifest)
        self.shown.prepared(data)

    def _on_device(
        self,
        cargo: dict[str, Cargo],
        digests: dict[str, str],
        settings: TrainSettings,
        identity: Identity,
    ) -> Found:
        wish = self.wish
        with open_device(wish.device) as device:
            found = run_on_device(device.connection, wish, identity)
            self._deploy(device, cargo, digests)
            self._train(device, found, settings)
            self._pull(device, found)
        return found

    def _deploy(self, device: Device, cargo: dict[str, Cargo], digests: dict[str, str]) -> None:
        words = self.wish.deploy_words()
        if _is_there(device, cargo, digests):
            return self._skip(words, "the device has it")
        self.shown.step(words, "the device lacks something of it", skipped=False)
        self.shown.sent(device.send(cargo, bars=self.shown.bars))

    def _train(self, device: Device, found: Found, settings: TrainSettings) -> None:
        wish, number, steps = self.wish, found.number, settings.steps or 0
        name, trackers = wish.run_name(number), wish.run_trackers(number)
        if found.state is State.COMPLETED:
            return self._skip(wish.train_words(number), "the device has the completed run")
        run: TrainingRun
        if found.state is State.GOING:
            self.shown.step(wish.attach_words(number), "the run goes on", skipped=False)
            run = device.run(name, trackers=trackers)
        elif found.state is State.BROKEN_OFF:
            self.shown.step(wish.resume_words(number), "the run was broken off", skipped=False)
            run = device.resume(name, trackers=trackers, say=self.shown.say)
        else:
            self.shown.step(wish.train_words(number), "there is no such run yet", skipped=False)
            run = self._begin(device, number, settings)
        if settings.method == "split":
            run.with_computer(wish.bundle)
        self.shown.watch(run, steps, fresh=found.state is not State.GOING)
        if run.status != "completed":
            how = "still goes on" if run.status == "running" else "was stopped"
            raise Unfinished(f"run {name} {how}", "The same command goes on with it")

    def _begin(self, device: Device, number: int, settings: TrainSettings) -> TrainingRun:
        wish, shown = self.wish, self.shown
        seconds = device.estimate(settings, bundle=wish.name, data=wish.name)
        if seconds is not None:
            shown.takes(seconds)
        return device.train(
            wish.run_name(number),
            wish.settings,
            bundle=wish.name,
            data=wish.name,
            trackers=wish.run_trackers(number),
            say=shown.say,
        )

    def _pull(self, device: Device, found: Found) -> None:
        words, folder = self.wish.pull_words(found.number), self.wish.run_folder(found.number)
        self.shown.step(words, "the run has ended", skipped=False)
        with self.shown.bars("pull") as progress:
            device.run(self.wish.run_name(found.number)).pull(folder, progress=progress)

    def _analyze(self, number: int) -> Result:
        folder = self.wish.run_folder(number)
        report = folder / "report.html"
        result = Result(folder, _sizes(folder), [])
        if report.is_file():
            self._skip(self.wish.analyze_words(number))
            return result
        self.shown.step(self.wish.analyze_words(number), "there is no report yet", skipped=False)
        from toolkit.trace.report import write_report

        write_report(result.analysis, report)
        return result


def _is_there(device: Device, cargo: dict[str, Cargo], digests: dict[str, str]) -> bool:
    """Whether a device has bundle, data and a runtime of this version."""
    for what, each in cargo.items():
        marker = read_marker(device.connection, each.place(device.connection, each.name))
        if marker is None or marker.sha256 != digests[what]:
            return False
    try:
        check_version(device.connection, find_runtime(device.connection))
    except ToolkitError:
        return False
    return True


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
