"""Talking to the app: what the phone says, as it says it, and the command lines that reach it."""

import json
import os
import zipfile
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from toolkit.device import app, app_export, app_install
from toolkit.device.base import ShellDevice
from toolkit.device.shell import WrappedCommand
from toolkit.errors import ToolkitError


def test_answers_are_found_among_other_lines():
    log = "\n".join(
        [
            "--------- beginning of main",
            '{"request":"a1","ok":true,"error":null,"run":"x"}',
            '{"request":"a2","ok":false,"error":"Run “x” is active.\\u001b[2J","run":null}',
            '{"request":3,"ok":true}',
            '{"request":"a4","ok":false}',
            '{"request":"a6","ok":true,"error":null,"run":"x","file":"x (1).zip"}',
            '{"request":"a7","ok":true,"file":["/etc"]}',
            "[1]",
            '{"request":"a5","ok":',
        ]
    )
    assert app.parse_answers(log) == [
        app.Answer("a1", ""),
        app.Answer("a2", "Run “x” is active.?[2J"),
        app.Answer("a6", "", "x (1).zip"),
        app.Answer("a7", "", ""),
    ]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("Success\n", ""),
        ("Performing Streamed Install\nSuccess\n", ""),
        (
            "Failure [INSTALL_FAILED_UPDATE_INCOMPATIBLE: signatures do not match]",
            "INSTALL_FAILED_UPDATE_INCOMPATIBLE",
        ),
        ("Error: Unable to open file: /x.apk\n", "Error: Unable to open file: /x.apk"),
        ("", "the package manager said nothing"),
    ],
)
def test_install_results(output, reason):
    assert app_install.parse_install(output) == reason


def test_states():
    assert app.parse_state(b'{"state":"failed","reason":"full"}') == ("failed", "full")
    for content in (b"", b"{", b"[]", b'{"state"', b"\xff"):
        assert app.parse_state(content) == ("", "")


def test_the_apps_folder_is_where_run_as_begins():
    assert app.parse_home("/data/user/10/dev.toolkit.trainer\n") == (
        "/data/user/10/dev.toolkit.trainer/files"
    )
    for output in ("", "\n", "run-as: couldn't stat\n", "/data/$(x)\n", "data\n"):
        assert app.parse_home(output) == app.FOLDER


class Phone(ShellDevice):
    """A phone that answers from a table of beginnings of commands."""

    def __init__(self, **answers: str) -> None:
        self.spec, self.kind, self.root = "p:5555", "adb", "/data/local/tmp/toolkit"
        self.answers = answers
        self.lines: list[str] = []

    def connect(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _exchange(
        self, wrapped: WrappedCommand, source: Iterator[bytes] | None, timeout: float
    ) -> Iterator[bytes]:
        command = wrapped.line.split("( ", 1)[1]
        self.lines.append(wrapped.line)
        code, text = 1, ""
        for beginning, answer in self.answers.items():
            if beginning.replace("_", " ") in command:
                code, text = 0, answer
                if callable(answer):
                    text = answer(command)
        yield text.encode() + wrapped.marker + f":{code}\n".encode()


def answering(error: str | None):
    """Answer the request that the last start carried."""
    requests = []

    def start(command: str) -> str:
        words = command.split()
        requests.append(words[words.index("request") + 1])
        return "Starting service: Intent { }\n"

    def log(_command: str) -> str:
        ok = "true" if error is None else "false"
        said = "null" if error is None else f'"{error}"'
        return f'{{"request":"{requests[-1]}","ok":{ok},"error":{said}}}\n'

    return {"am_start-foreground-service": start, "logcat": log}


def test_a_request_names_what_it_wants_and_waits_for_its_answer():
    phone = Phone(**answering(None))
    app.ask(phone, "TRAIN", {"run": "a b", "steps": 5, "lr": None})
    start = phone.lines[0]
    assert "-n dev.toolkit.trainer/.service.AutomationService" in start
    assert "-a dev.toolkit.trainer.automation.TRAIN" in start
    assert "--es run 'a b'" in start and "--es steps 5" in start and "--es lr" not in start


def test_a_refusal_is_the_apps_own_words():
    with pytest.raises(ToolkitError, match=r"refuses: Run x is active\. Stop it first"):
        app.ask(Phone(**answering("Run x is active. Stop it first")), "TRAIN", {"run": "a"})


def test_a_missing_entry_is_said():
    phone = Phone(**{"am_start-foreground-service": "Error: Requires permission\n"})
    with pytest.raises(ToolkitError, match="cannot be asked: Error: Requires permission"):
        app.ask(phone, "STOP", {})


def test_without_app_or_phone():
    with pytest.raises(ToolkitError, match="not installed"):
        app.require_app(Phone())
    phone = Phone()
    phone.kind = "local"
    with pytest.raises(ToolkitError, match="runs no Android apps"):
        app.require_app(phone)


def test_commands_inside_the_app_run_as_it():
    phone = Phone(**{"run-as": "", "pm_path": "package:/data/app/base.apk\n"})
    inside = app.inside_app(phone)
    assert inside.root == "/data/data/dev.toolkit.trainer/files"
    with pytest.raises(ToolkitError, match="does not let `run-as` in"):
        app.inside_app(Phone(pm_path="package:x\n"))


def test_package_paths():
    output = "package:/data/app/~~x==/base.apk\r\npackage:/data/app/~~x==/split_config.apk\n"
    paths = app_install.parse_package_paths(output)
    assert paths == ["/data/app/~~x==/base.apk", "/data/app/~~x==/split_config.apk"]
    assert app_install.parse_package_paths("") == []
    assert app_install.parse_package_paths("Error: could not access the Package Manager\n") == []


def write_apk(path, *names):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("classes.dex", *names):
            archive.writestr(name, name)
    return path


def test_the_apk_built_here_is_found_one_with_an_engine_first(tmp_path):
    assert app_install.built_apk("arm64-v8a", tmp_path) is None
    outputs = tmp_path / "android_app/app/build/outputs/apk/debug"
    gradle = write_apk(outputs / "app-debug.apk", "lib/arm64-v8a/libtoolkit_jni.so")
    maven = write_apk(tmp_path / "build/android/toolkit-trainer-debug.apk")
    write_apk(tmp_path / "build/android/unaligned.apk", "lib/arm64-v8a/libtoolkit_jni.so")
    os.utime(gradle, (1, 1))
    assert app_install.built_apk("arm64-v8a", tmp_path) == gradle
    assert app_install.built_apk("x86_64", tmp_path) == maven


def test_an_app_without_engine_replaces_no_other(tmp_path, monkeypatch):
    apk = write_apk(tmp_path / "a.apk")
    monkeypatch.setattr(app_install, "built_apk", lambda abi: apk)
    phone = Phone(pm_path="package:/data/app/base.apk\n")
    monkeypatch.setattr(phone, "info", lambda: SimpleNamespace(abi="arm64-v8a"))
    assert app_install.prepare(phone, None) == "the app is there already"
    assert not [line for line in phone.lines if "install" in line]


@pytest.mark.parametrize("name", ["", "b.zip", "a.zip/../x", "a (1); rm.zip", "../a.zip", "a .zip"])
def test_export_names_are_not_trusted(name):
    with pytest.raises(ToolkitError, match="the app names its export"):
        app_export.export_name(name, "a")


@pytest.mark.parametrize("name", ["a.zip", "a (1).zip", "a (23).zip"])
def test_export_names_as_android_numbers_them(name):
    assert app_export.export_name(name, "a") == name


def test_a_resumed_run_keeps_its_settings():
    with pytest.raises(ToolkitError, match="keeps its settings: --steps cannot change"):
        app.start(Phone(), "a", None, None, {"steps": 9}, resume=True)


def test_unknown_settings_are_refused_before_anything_is_sent():
    phone = Phone()
    with pytest.raises(ToolkitError, match="the app has no --momentum"):
        app.start(phone, "a", "b", "d", {"momentum": 0.9}, resume=False)
    assert phone.lines == []


def test_a_run_that_the_app_left_is_not_alive():
    phone = Phone(**{"pidof": "123\n", "tail": '{"state":"completed"}'})
    run = app.AppRun(phone, "a")
    assert not run.alive()
    phone.answers["tail"] = '{"state":"waiting"}'
    assert run.alive()
    assert run.status() == "running"
    del phone.answers["pidof"]
    assert not run.alive() and run.status() == "failed"
    for state, status in (("completed", "completed"), ("paused", "stopped"), ("failed", "failed")):
        phone.answers["tail"] = json.dumps({"state": state})
        assert run.status() == status
