"""Starting a run: which bundle and data, whether they belong together, and what a resume keeps."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toolkit.data.fingerprint import check_same_tokenizer
from toolkit.data.template import FILE as TEMPLATE_FILE
from toolkit.device.adapters import read_json, send_adapter
from toolkit.device.base import Device
from toolkit.device.layout import Deployed, choose
from toolkit.device.run_settings import SETTINGS as SETTINGS_FILE
from toolkit.device.run_settings import Settings, changes, read_settings
from toolkit.device.run_start import require_resumable, start
from toolkit.device.runs import Run
from toolkit.device.runtime import check_version, find_runtime
from toolkit.device.session import WHOLE, Session
from toolkit.errors import ToolkitError
from toolkit.settings.declaration import Value
from toolkit.settings.merging import merged
from toolkit.settings.training import FLAGS, SETTINGS, TrainSettings

Say = Callable[[str], None]


def begin(
    device: Device,
    name: str,
    settings: TrainSettings,
    *,
    bundle: str | None = None,
    data: str | None = None,
    adapter: str | Path | None = None,
    until: int | None = None,
    say: Say,
) -> Run:
    """Start a new run.

    Args:
        name: What it is called on the device.
        settings: Its settings.
        bundle: Name on the device; None: the last sent. So is `data`.
        adapter: What to start from, an adapter .ptd or a PEFT folder on this machine.
        until: Save and end the first session after so many of its steps; None: after all.
        say: Called with lines for people.

    Raises:
        ToolkitError: Something is missing, or bundle, data and adapter do not belong together.
    """
    runtime = find_runtime(device)
    check_version(device, runtime)
    chosen = choose(device, "bundles", bundle), choose(device, "data", data)
    facts = check_pair(device, *chosen)
    settings = settings.for_samples(sequences_of(facts)).effective()
    if settings.method == "split":
        require_second_connection(device)
    given: Settings = {**settings.flags(), **_chosen(*chosen)}
    if adapter is not None:
        given["adapter"] = send_adapter(device, Path(adapter), chosen[0], say)
    _warn(settings, facts, say)
    arguments = _arguments(device, *chosen, settings, given.get("adapter"))
    arguments += Session(until=until).arguments(device, chosen[0], say)
    # Whoever uses the adapter needs the template that it was made with.
    template = f"{chosen[1].path}/{TEMPLATE_FILE}"
    files = [template] if device.stat(template) else []
    return start(device, runtime, name, arguments, resume=False, settings=given, files=files)


def resume(
    device: Device,
    name: str,
    changed: Mapping[str, Value],
    *,
    bundle: str | None = None,
    data: str | None = None,
    session: Session = WHOLE,
    say: Say,
) -> Run:
    """Continue a run with the settings it was started with, but for those `changed`, by flag.

    Args:
        session: Where it ends before the run does, and an adapter to go on with.

    Raises:
        ToolkitError: It cannot go on, its settings are not known, or bundle or data are not those
            it was started with. Nothing that is stored has changed then.
    """
    runtime = find_runtime(device)
    check_version(device, runtime)
    require_resumable(Run(device, name))
    stored = read_settings(device, name, FLAGS)
    own = {known.flag: stored[known.flag] for known in SETTINGS if known.flag in stored}
    where = f"{SETTINGS_FILE} of run {name!r}"
    settings = TrainSettings.of(merged(own, changed), where)
    chosen = (
        choose(device, "bundles", bundle or _text(stored.get("bundle"))),
        choose(device, "data", data or _text(stored.get("data"))),
    )
    _require_same(device, name, "bundle", chosen[0], stored)
    _require_same(device, name, "data", chosen[1], stored)
    facts = check_pair(device, *chosen)
    if settings.method == "split":
        require_second_connection(device)
        if session.take_adapter is not None:
            raise ToolkitError(
                "--method split takes no --take-adapter: a part of the adapter is the computer's",
                "Start another run with --adapter",
            )
    settings = settings.for_samples(sequences_of(facts)).effective()
    before = TrainSettings.of(own, where).effective()
    if different := changes(before.flags(), settings.flags()):
        say(f"changed: {', '.join(different)}")
    _warn(settings, facts, say)
    kept = {key: value for key, value in stored.items() if key not in own}
    arguments = _arguments(device, *chosen, settings, stored.get("adapter"))
    arguments += session.arguments(device, chosen[0], say)
    given = {**kept, **settings.flags(), **_chosen(*chosen)}
    return start(device, runtime, name, arguments, resume=True, settings=given)


def _chosen(bundle: Deployed, data: Deployed) -> Settings:
    return {
        "bundle": bundle.name,
        "bundle-sha256": bundle.sha256,
        "data": data.name,
        "data-sha256": data.sha256,
    }


def _require_same(device: Device, run: str, what: str, now: Deployed, before: Settings) -> None:
    digest = before.get(f"{what}-sha256")
    if digest is None or digest == now.sha256:
        return
    flag = "" if before.get(what) == now.name else f" and name it with --{what}"
    raise ToolkitError(
        f"{what} {now.name!r} on device {device.spec} is not the one that run {run!r} was started "
        f"with (SHA-256 {now.sha256[:12]}, not {str(digest)[:12]})",
        f"Deploy that one again{flag}, or start another run",
    )


def _arguments(
    device: Device, bundle: Deployed, data: Deployed, settings: TrainSettings, adapter: Value
) -> list[str]:
    """Return the trainer's arguments."""
    arguments = ["--bundle", bundle.path, "--data", f"{data.path}/train.ptd"]
    for flag, value in settings.flags().items():
        if FLAGS[flag].source == "trainer":
            arguments += [f"--{flag}", str(value)]
    if settings.eval_every is not None:
        arguments += ["--eval-data", _validation(device, data.path)]
    if adapter is not None:
        arguments += ["--adapter", str(adapter)]
    return arguments


def check_pair(device: Device, bundle: Deployed, data: Deployed) -> dict[str, Any]:
    """Check that data on a device is for a bundle there, and return what its data.json says.

    Raises:
        ToolkitError: It was made with another tokenizer.
    """
    facts = read_json(device, f"{data.path}/data.json")
    check_same_tokenizer(
        read_json(device, f"{bundle.path}/manifest.json"),
        facts,
        bundle=f"bundle {bundle.name!r}",
        data=f"data {data.name!r}",
    )
    return facts


def require_second_connection(device: Device) -> None:
    """Raise where a run cannot be answered over a connection beside the one that watches it."""
    if device.exclusive:
        raise ToolkitError(
            f"device {device.spec} on USB takes one connection at a time, and --method split needs "
            "two",
            "Have an adb server share it (`adb start-server`), or reach it over the network: "
            "`adb tcpip 5555`, then --device HOST:5555",
        )


def sequences_of(facts: Mapping[str, Any]) -> int | None:
    """Return how many sequences there are to train on, by data.json; None if it does not say."""
    train = facts.get("train")
    there = train.get("sequences") if isinstance(train, dict) else None
    return there if isinstance(there, int) and there > 0 else None


def _warn(settings: TrainSettings, facts: Mapping[str, Any], say: Say) -> None:
    """Warn if a step takes more sequences than the data has."""
    step, there = settings.batch_size * settings.grad_accum, sequences_of(facts)
    if there is not None and step > there:
        say(
            f"warning: a step takes {step} sequences and the data has {there}: every step sees "
            f"each {step / there:.3g} times"
        )


def _validation(device: Device, data: str) -> str:
    path = f"{data}/validation.ptd"
    if device.stat(path) is None:
        raise ToolkitError(
            "--eval-every needs held-out data, and the data on the device has none",
            "Make it with `toolkit data --validation 0.05`, or leave --eval-every away",
        )
    return path


def _text(value: Value) -> str | None:
    return None if value is None else str(value)
