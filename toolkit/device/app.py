"""The Android app as a place to train: starting runs through its guarded entry, and
reading its private folder with `run-as`, which debuggable builds allow.

The app answers a request with one line of JSON in the log (tag `toolkit.answer`); its runs have the
same files as runs of the shell, so watching and pulling them is the same code over another device.
"""

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from toolkit.device.base import Device, ShellDevice
from toolkit.device.layout import check_name
from toolkit.device.runs import Run
from toolkit.device.shell import WrappedCommand, command_line, quote
from toolkit.errors import ToolkitError
from toolkit.settings.declaration import Value
from toolkit.settings.training import FLAGS, TrainSettings

PACKAGE = "dev.toolkit.trainer"
FOLDER = f"/data/data/{PACKAGE}/files"
_SERVICE = f"{PACKAGE}/.service.AutomationService"
_ACTION = f"{PACKAGE}.automation"
_TAG = "toolkit.answer"
_ANSWER_SECONDS = 15.0


@dataclass(frozen=True)
class Answer:
    """What the app said to a request; `error` is empty when it did as it was told.

    `file` is what an export is called in Downloads.
    """

    request: str
    error: str
    file: str = ""


def parse_answers(log: str) -> list[Answer]:
    """Return the app's answers in the output of `logcat -v raw`, the oldest first."""
    answers = []
    for line in log.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if not isinstance(record, dict) or not isinstance(record.get("request"), str):
            continue
        if record.get("ok") is True:
            file = record.get("file")
            answers.append(Answer(record["request"], "", file if isinstance(file, str) else ""))
        elif isinstance(record.get("error"), str):
            text = "".join(c if c.isprintable() else "?" for c in record["error"][:500])
            answers.append(Answer(record["request"], text or "the app gives no reason"))
    return answers


def parse_state(content: bytes) -> tuple[str, str]:
    """Return state and reason of a run of the app from its run.json; empty if there is none."""
    try:
        record = json.loads(content)
        return str(record["state"]), str(record.get("reason", ""))[:500]
    except (ValueError, KeyError, TypeError):
        return "", ""


def parse_home(output: str) -> str:
    """Return the app's folder for files from what `run-as PACKAGE pwd` printed."""
    lines = output.splitlines()
    found = lines and re.fullmatch(r"(/[A-Za-z0-9._-]+)+", lines[-1].strip())
    return f"{found[0]}/files" if found else FOLDER


def require_app(device: Device) -> None:
    """Raise unless the device is a phone with the app on it."""
    if device.kind != "adb":
        raise ToolkitError(
            f"device {device.spec} runs no Android apps",
            "Name a phone with --device, or leave --app away",
        )
    if device.shell(command_line("pm", "path", PACKAGE)).code != 0:
        raise ToolkitError(
            f"the app is not installed on device {device.spec}",
            f"Run `toolkit deploy BUNDLE --device {device.spec} --app --apk FILE.apk`",
        )


def ask(
    device: Device, action: str, extras: Mapping[str, Value], seconds: float = _ANSWER_SECONDS
) -> Answer:
    """Send a request to the app's guarded entry and return its answer.

    Raises:
        ToolkitError: The app refuses; the message is its own.
    """
    request = secrets.token_hex(6)
    words = ["am", "start-foreground-service", "-n", _SERVICE, "-a", f"{_ACTION}.{action}"]
    for name, value in {"request": request, **extras}.items():
        if value is not None:
            words += ["--es", name, str(value)]
    started = device.shell(command_line(*words))
    if started.code != 0 or "Error:" in started.text:
        line = next((part for part in started.text.splitlines() if "rror" in part), started.text)
        raise ToolkitError(f"the app cannot be asked: {line.strip()[:200]}", "Install it again")
    answer = _await_answer(device, request, seconds)
    if answer.error:
        raise ToolkitError(f"the app on {device.spec} refuses: {answer.error}")
    return answer


def _await_answer(device: Device, request: str, seconds: float) -> Answer:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        log = device.shell(command_line("logcat", "-d", "-v", "raw", "-s", f"{_TAG}:I")).text
        for answer in parse_answers(log):
            if answer.request == request:
                return answer
        time.sleep(0.3)
    raise ToolkitError(
        f"the app on {device.spec} does not answer", "Unlock the phone, open the app and try again"
    )


def debuggable(phone: Device) -> bool:
    """Whether `run-as` may look into the app.

    Raises:
        ToolkitError: This is no phone, or the app is not on it.
    """
    require_app(phone)
    return phone.shell(command_line("run-as", PACKAGE, "true")).code == 0


class AppDevice(ShellDevice):
    """A phone seen from inside the app: every command runs as the app, below its own folder."""

    def __init__(self, phone: ShellDevice) -> None:
        self._phone = phone
        self.spec = phone.spec
        self.kind = phone.kind
        self.root = FOLDER

    def connect(self) -> None:
        """Check that the app allows it; the phone itself is connected already.

        Raises:
            ToolkitError: The build is not debuggable.
        """
        result = self._phone.shell(command_line("run-as", PACKAGE, "pwd"))
        if result.code != 0:
            raise ToolkitError(
                f"the app on {self.spec} does not let `run-as` in: {result.text.strip()[:200]}",
                "Install a debug build, or train on the phone (`toolkit pull --app` needs neither)",
            )
        # `run-as` begins in the app's folder, which is another one for a second user of the phone.
        self.root = parse_home(result.text)

    def close(self) -> None:
        """Nothing is held."""

    def _exchange(
        self, command: WrappedCommand, source: Iterator[bytes] | None, timeout: float
    ) -> Iterator[bytes]:
        line = f"run-as {PACKAGE} sh -c {quote(command.line)}"
        return self._phone._exchange(replace(command, line=line), source, timeout)


def inside_app(device: Device) -> AppDevice:
    """Return a connected phone as the app on it sees it.

    Raises:
        ToolkitError: This is no phone, the app is not on it, or it is not debuggable.
    """
    require_app(device)
    assert isinstance(device, ShellDevice)
    inside = AppDevice(device)
    inside.connect()
    return inside


class AppRun(Run):
    """A run of the app; the app starts and ends it, this side looks."""

    @property
    def where(self) -> str:
        """The options that lead other commands to the app."""
        return f"{super().where} --app"

    def alive(self) -> bool:
        """Whether the app holds the run; while it waits for better conditions it does."""
        state, _ = parse_state(self.device.read(f"{self.path}/run.json"))
        running = self.device.shell(command_line("pidof", PACKAGE)).code == 0
        return running and state in ("running", "waiting")

    def status(self) -> str:
        """Return "running", "completed", "stopped" or "failed", by the app's own record."""
        if self.alive():
            return "running"
        state, _ = parse_state(self.device.read(f"{self.path}/run.json"))
        ended = {"completed": "completed", "stopped": "stopped", "paused": "stopped"}
        return ended.get(state, "failed")

    def request_stop(self) -> None:
        """Ask the app to save and pause the run."""
        phone = self.device._phone if isinstance(self.device, AppDevice) else self.device
        ask(phone, "STOP", {})

    def discard_if_refused(self) -> bool:
        """The app's runs are the app's to delete."""
        return False

    def failure(self) -> str:
        """The reason that the app shows as well."""
        state, reason = parse_state(self.device.read(f"{self.path}/run.json"))
        return reason or f"the app left it {state or 'without a record'}"


def settings_of_app(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return those of the settings, by flag, that the app has; others may only be the defaults.

    Raises:
        ToolkitError: Another one is set.
    """
    usual = TrainSettings(optimizer=str(settings.get("optimizer", "adamw"))).effective().flags()
    unknown = [
        f"--{flag}"
        for flag, value in settings.items()
        if not FLAGS[flag].app and value != usual.get(flag)
    ]
    if unknown:
        raise ToolkitError(
            f"the app has no {', '.join(unknown)}", "Leave it away, or train without --app"
        )
    return {flag: value for flag, value in settings.items() if FLAGS[flag].app}


def start(
    phone: ShellDevice,
    name: str,
    bundle: str | None,
    data: str | None,
    settings: Mapping[str, Value],
    *,
    resume: bool,
) -> AppRun:
    """Start or resume a run in the app and return it, to be watched; `settings` are by flag.

    Raises:
        ToolkitError: The app refuses, or a setting is not one of the app's.
    """
    settings = settings_of_app(settings)
    if resume and settings:
        given = ", ".join(f"--{flag}" for flag in settings)
        raise ToolkitError(
            f"a run of the app keeps its settings: {given} cannot change",
            "Leave it away, or start another run",
        )
    inside = inside_app(phone)
    run = AppRun(inside, check_name(name, "run"))
    entry = inside.stat(f"{run.path}/trace.jsonl")
    run.trace_offset = entry.size if entry is not None else 0
    extras: dict[str, Value] = {"run": name, "bundle": bundle, "data": data, **settings}
    ask(phone, "TRAIN", {"run": name, "resume": "true"} if resume else extras)
    return run
