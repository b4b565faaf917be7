"""`toolkit train`: start a run on a device, watch it, stop it at a step, come back to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.api.devices import Device, open_device
from toolkit.api.runs import TrainingRun
from toolkit.cli.common import console, print_json, say, say_next
from toolkit.cli.flags import takes
from toolkit.cli.train_system import system_trace
from toolkit.cli.train_watch import say_time, watch
from toolkit.device import Device as Connection
from toolkit.device import training
from toolkit.device.layout import check_name, choose
from toolkit.device.run_settings import stored_settings
from toolkit.device.session import Session
from toolkit.errors import ToolkitError
from toolkit.settings.config import read_config, save_config
from toolkit.settings.declaration import Value
from toolkit.settings.merging import merged
from toolkit.settings.training import FLAGS, SETTINGS, TrainSettings
from toolkit.tracking.feed import Feed
from toolkit.tracking.flags import TRACKERS, trackers_of

if TYPE_CHECKING:
    from toolkit.tracking.tracker import Tracker


@takes(FLAGS.values())
def train(
    flags: dict[str, Value],
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of settings, as --save-config writes it or a run's settings.json; "
            "flags win.",
            metavar="FILE",
        ),
    ] = None,
    save_to: Annotated[
        Path | None,
        typer.Option(
            "--save-config",
            help="Write all settings to this file, with what they mean, and start nothing.",
            metavar="FILE",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run --out where it was saved.")
    ] = False,
    take_adapter: Annotated[
        Path | None,
        typer.Option(
            help="With --resume: go on with this adapter in place of the run's own; what the "
            "optimizer remembers and the place in the data stay. Given again it is taken once.",
            metavar="FOLDER",
        ),
    ] = None,
    take_at: Annotated[
        int | None,
        typer.Option(
            help="With --take-adapter: only if the run was saved after so many steps.",
            metavar="N",
            min=0,
        ),
    ] = None,
    until: Annotated[
        int | None,
        typer.Option(
            help="Save and end this session after so many of the run's steps; --resume goes on.",
            metavar="N",
            min=1,
        ),
    ] = None,
    computer_bundle: Annotated[
        Path | None,
        typer.Option(
            help="With --method split: the deployed bundle on this computer, which computes the "
            "layers above --cut while this command runs.",
            metavar="FOLDER",
        ),
    ] = None,
    attach_to: Annotated[
        str | None, typer.Option("--attach", help="Watch this run instead of starting one.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start the run and leave it to itself.")
    ] = False,
    app: Annotated[
        bool, typer.Option("--app", help="Train in the Android app instead of the shell.")
    ] = False,
    atrace: Annotated[
        bool,
        typer.Option(
            "--atrace", help="Record the phone's system trace too: runs/OUT.system.pftrace."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the trace's records as JSON lines.")
    ] = False,
) -> None:
    """Train on a device, with progress.

    The run goes on when the connection breaks. Ctrl-C stops it with everything saved, before or
    after the current step; a second Ctrl-C leaves it running. With --resume flags that are not
    given keep the values the run was started with, bundle, data and adapter included. What is in
    effect is kept with the run, and `toolkit pull` brings it as settings.json.

    --tensorboard, --csv and --wandb show loss, learning rate, gradient norm, tokens/s, peak and
    held-out loss as they come (pip install "toolkit[tensorboard]" or "toolkit[wandb]"); with
    --resume or --attach they go on where they were, with every step once.

    \b
    Examples:
      toolkit train --device local --steps 50 --lr 1e-4 --out run1
      toolkit train --out run1 --resume --steps 100
      toolkit train --epochs 3 --lr 5e-4 --schedule cosine --min-lr 5e-5 --out run5
      toolkit train --epochs 9 --eval-every 50 --patience 3 --keep best --out run7
      toolkit train --epochs 3 --lr 5e-4 --save-config run.yaml
      toolkit train --config run.yaml --optimizer lion --out run6
      toolkit train --steps 50 --optimizer adamw --grad-accum 4 --out run2 --detach
      toolkit train --attach run2
      toolkit train --attach run2 --csv run2.csv --tensorboard tensorboard
      toolkit train --steps 50 --adapter runs/run1 --out run3
      toolkit train --steps 90 --until 30 --out run8
      toolkit train --out run8 --resume --until 60 --take-adapter averaged
      toolkit train --device SERIAL --steps 5 --out run4 --atrace
      toolkit train --steps 50 --method split --cut 4 --computer-bundle bundle --out run9
    """
    given = flags if config is None else merged(read_config(config), flags)
    if save_to is not None:
        save_config(save_to, given)
        say_next(f"toolkit train --config {save_to}")
        return
    session = Session(until, take_adapter, take_at)
    _check_usage(given, attach_to, resume, session, app)
    ending = ["--atrace"] * atrace + [f"--{flag}" for flag in TRACKERS if flag in given]
    if detach and ending:
        raise typer.BadParameter(f"{ending[0]} ends with this command, so it takes no --detach")
    if given.get("method") == "split" or computer_bundle is not None:
        _check_split(computer_bundle, detach or app)
    trackers = trackers_of(given)
    name = str(attach_to or given["out"])
    device = open_device(str(given.get("device", "local")))
    with device, system_trace(device.connection, name, atrace):
        run = _run(device, name, given, trackers, session, resume, attach_to is not None, app)
        if not app:
            _with_computer(device, run, computer_bundle)
        if detach:
            _announce(run, as_json)
        else:
            steps = given.get("steps")
            total = until or (steps if isinstance(steps, int) else None)
            watch(run.watching, total, as_json=as_json, forecast=attach_to is None)


def _run(
    device: Device,
    name: str,
    given: dict[str, Value],
    trackers: "list[Tracker]",
    session: Session,
    resume: bool,
    attached: bool,
    app: bool,
) -> TrainingRun:
    settings = {known.flag: given[known.flag] for known in SETTINGS if known.flag in given}
    places = (given.get(flag) for flag in ("bundle", "data", "adapter"))
    bundle, data, adapter = (None if place is None else str(place) for place in places)
    if resume and adapter not in (None, stored_settings(device.connection, name).get("adapter")):
        raise ToolkitError(
            "a run keeps the adapter that it started from",
            "Leave --adapter away with --resume; --take-adapter puts another into its saved state",
        )
    if app:
        feed = Feed(check_name(name, "run"), trackers)
        phone = device.connection
        return _app_run(phone, name, bundle, data, adapter, settings, feed, resume, attached)
    if attached:
        return device.run(name, trackers=trackers)
    if resume:
        asked: dict[str, Any] = {**vars(session), **settings}
        return device.resume(name, bundle=bundle, data=data, trackers=trackers, say=say, **asked)
    chosen = TrainSettings.of(settings)
    say_time(device.estimate(chosen, bundle=bundle, data=data))
    where: dict[str, Any] = {"bundle": bundle, "data": data, "adapter": adapter}
    return device.train(name, chosen, **where, until=session.until, trackers=trackers, say=say)


def _check_usage(
    given: Mapping[str, Value], attach_to: str | None, resume: bool, session: Session, app: bool
) -> None:
    asked = ["--until"] * (session.until is not None)
    asked += ["--take-adapter"] * (session.take_adapter is not None)
    if app and asked:
        raise typer.BadParameter(f"the app has no {asked[0]}")
    if session.take_adapter is not None and not resume and attach_to is None:
        raise typer.BadParameter("--take-adapter is for --resume; a new run has --adapter")
    if attach_to is None:
        long = resume or "steps" in given or "epochs" in given
        if "out" not in given or not long:
            raise typer.BadParameter("--out and --steps or --epochs are needed (or --attach RUN)")
        return
    starting = [f"--{flag}" for flag in given if flag not in ("device", *TRACKERS)]
    starting += [*asked, *["--resume"] * resume]
    if starting:
        raise typer.BadParameter(f"--attach starts nothing, so it takes no {', '.join(starting)}")


def _check_split(bundle: Path | None, leaves: bool) -> None:
    if bundle is None or leaves:
        raise typer.BadParameter(
            "--method split needs --computer-bundle, and takes no --detach or --app: this command "
            "computes the layers above --cut"
        )


def _with_computer(device: Device, run: TrainingRun, bundle: Path | None) -> None:
    """Have this computer do its part of a split run, which waits for it."""
    if bundle is not None:
        run.with_computer(bundle)
        return
    splits = stored_settings(device.connection, run.name).get("method") == "split"
    if splits and run.status == "running":
        raise ToolkitError(
            f"run {run.name} waits for the layers above its cut",
            f"toolkit train --attach {run.name} --computer-bundle BUNDLE computes them",
        )


def _app_run(
    phone: Connection,
    name: str,
    bundle: str | None,
    data: str | None,
    adapter: str | None,
    settings: dict[str, Value],
    feed: Feed,
    resume: bool,
    attached: bool,
) -> TrainingRun:
    from toolkit.device import app
    from toolkit.device.base import ShellDevice

    if attached:
        return TrainingRun(app.AppRun(app.inside_app(phone), name), feed=feed)
    app.require_app(phone)
    assert isinstance(phone, ShellDevice)
    if adapter is not None:
        raise ToolkitError("the app has no --adapter", "Leave it away, or train without --app")
    if resume and feed:
        feed.require_same(app.AppRun(app.inside_app(phone), name).history(whole=True))
    if not resume:
        feed.require_free()
        chosen = choose(phone, "bundles", bundle), choose(phone, "data", data)
        facts = training.check_pair(phone, *chosen)
        bundle, data = (item.name for item in chosen)
        steps = TrainSettings.of(settings).for_samples(training.sequences_of(facts)).steps
        settings = merged(settings, {"steps": steps})
    run = app.start(phone, name, bundle, data, settings, resume=resume)
    return TrainingRun(run, began=not resume, feed=feed)


def _announce(trained: TrainingRun, as_json: bool) -> None:
    run = trained.watching.run
    if as_json:
        print_json({"run": run.name, "device": run.device.spec, "path": run.path})
        return
    console.print(f"run {run.name} was started on {run.device.spec}", highlight=False)
    console.print(f"watch it: toolkit train {run.where} --attach {run.name}", highlight=False)
