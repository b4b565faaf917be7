"""Talking to the app: what the phone says, as it says it, and the command lines that reach it."""

from collections.abc import Iterator

import pytest

from toolkit.device import app
from toolkit.device.base import ShellDevice
from toolkit.errors import ToolkitError


def test_answers_are_found_among_other_lines():
    log = "\n".join(
        [
            "--------- beginning of main",
            '{"request":"a1","ok":true,"error":null,"run":"x"}',
            '{"request":"a2","ok":false,"error":"Run “x” is active.\\u001b[2J","run":null}',
            '{"request":3,"ok":true}',
            '{"request":"a4","ok":false}',
            "[1]",
            '{"request":"a5","ok":',
        ]
    )
    assert app.parse_answers(log) == [
        app.Answer("a1", ""),
        app.Answer("a2", "Run “x” is active.?[2J"),
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
    assert app.parse_install(output) == reason


def test_states():
    assert app.parse_state(b'{"state":"failed","reason":"full"}') == ("failed", "full")
    for content in (b"", b"{", b"[]", b'{"state"', b"\xff"):
        assert app.parse_state(content) == ("", "")


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
        self, line: str, source: Iterator[bytes] | None, timeout: float
    ) -> Iterator[bytes]:
        marker = line.split("toolkit-exit-")[1][:16]
        command = line.split("( ", 1)[1]
        self.lines.append(line)
        code, text = 1, ""
        for beginning, answer in self.answers.items():
            if beginning.replace("_", " ") in command:
                code, text = 0, answer
                if callable(answer):
                    text = answer(command)
        yield f"{text}toolkit-exit-{marker}:{code}\n".encode()


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
    del phone.answers["pidof"]
    assert not run.alive()
