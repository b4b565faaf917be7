"""The `toolkit` command itself: help, version, exit codes, and how fast it starts."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console
from typer.testing import CliRunner

from toolkit import __version__
from toolkit.cli import main
from toolkit.cli.export_progress import ExportProgress
from toolkit.cli.units import bytes_text
from toolkit.errors import ToolkitError, explain_os_error


def run(*arguments):
    return CliRunner().invoke(main.app, list(arguments))


def process(*arguments, code=None):
    command = ["-c", code] if code else ["-m", "toolkit.cli.main"]
    return subprocess.run(
        [sys.executable, *command, *arguments], capture_output=True, text=True, timeout=300
    )


def test_version_and_help():
    assert run("--version").output == f"toolkit {__version__}\n"
    text = run("--help").output
    for name, line in main.COMMANDS.items():
        assert f"  {name} " in text
        assert line.split(",")[0].split(" ")[0] in text
    assert "Examples:\n" in text and "Exit codes" in text
    assert run("-h").output == text


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help_with_examples(name):
    words = [name, "build"] if name == "runtime" else [name]
    result = run(*words, "--help")
    assert result.exit_code == 0, result.output
    assert f"toolkit {' '.join(words)}" in result.output
    assert "Example" in result.output


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['toolkit', '--help']\n"
        "from toolkit.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'transformers', 'executorch'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = process(code=code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("arguments", [["exprt"], ["export"], ["export", "--nope"], ["inspect"]])
def test_wrong_usage_is_2(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error" in result.stderr


def test_a_typing_error_gets_a_suggestion():
    assert "Did you mean 'export'?" in run("exprt").stderr


def test_failures_are_one_line_and_1(monkeypatch, tmp_path):
    result = run("inspect", str(tmp_path))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"error: {tmp_path} is not a bundle: it has no manifest.json. "
        "Make one with: toolkit export\n"
    )

    def fail(*_arguments, **_options):
        raise ToolkitError("a [red]cause[/red] with " + "many words " * 30, "and a remedy")

    monkeypatch.setattr("toolkit.bundle.inspection.inspect_bundle", fail)
    result = run("inspect", str(tmp_path))
    assert result.stderr.count("\n") == 1 and "[red]cause[/red]" in result.stderr


def test_interruption_is_130(monkeypatch, tmp_path):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("toolkit.bundle.inspection.inspect_bundle", interrupt)
    result = run("inspect", str(tmp_path))
    assert (result.exit_code, result.stderr) == (130, "error: interrupted\n")


def test_termination_runs_cleanup(tmp_path):
    code = (
        "import sys, time, signal\n"
        "from pathlib import Path\n"
        "from toolkit.cli import main\n"
        "import toolkit.bundle.inspection as inspection\n"
        "def wait(*a, **k):\n"
        "    try:\n"
        "        Path(sys.argv[2], 'started').touch(); time.sleep(60)\n"
        "    finally:\n"
        "        Path(sys.argv[2], 'cleaned').touch()\n"
        "inspection.inspect_bundle = wait\n"
        "main.main()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, "inspect", str(tmp_path)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait(timeout=60) == 143
    assert (tmp_path / "cleaned").exists()


def test_failures_are_json_too(tmp_path, monkeypatch):
    """Every command with --json: one object on standard output, the words on standard error."""
    result = run("inspect", str(tmp_path), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "error": f"{tmp_path} is not a bundle: it has no manifest.json",
        "fix": "Make one with: toolkit export",
    }
    assert result.stderr.startswith("error: ")
    result = run("inspect", str(tmp_path), "--tensors", "many", "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert "'--tensors'" in found["error"]
    assert found["fix"].endswith(" inspect --help`")
    monkeypatch.setattr("toolkit.bundle.inspection.inspect_bundle", _interrupt)
    result = run("inspect", str(tmp_path), "--json")
    assert (result.exit_code, json.loads(result.stdout)["error"]) == (130, "interrupted")


def _interrupt(*_arguments, **_options):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/root/x"),
            "/root/x: permission denied. Choose a place that you may read and write",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "a file could not be written: no space left on device. Free some space on this "
            "machine and run the command again",
        ),
        (
            OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"),
            "a and b: invalid cross-device link",
        ),
        (OSError("odd"), "the system refused: odd"),
    ],
)
def test_what_the_system_refuses_is_one_line(monkeypatch, tmp_path, error, line):
    assert str(explain_os_error(error)) == line

    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr("toolkit.bundle.inspection.inspect_bundle", fail)
    result = run("inspect", str(tmp_path))
    assert (result.exit_code, result.stderr) == (1, f"error: {line}\n")


def test_a_full_standard_output_is_said(tmp_path):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        result = subprocess.run(
            [sys.executable, "-m", "toolkit.cli.main", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert result.returncode == 1
    assert "no space left on device" in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("printing", ["console.print('x' * 99)", "print('x' * 99)"])
def test_a_reader_that_goes_away_is_no_failure(printing):
    """`toolkit analyze ... | head -1`: silent, with the code of a program that SIGPIPE ended."""
    code = (
        "import sys, time\n"
        "from toolkit.cli import main\n"
        "from toolkit.cli.common import console\n"
        "import toolkit.bundle.inspection as inspection\n"
        "def chatter(*a, **k):\n"
        f"    for _ in range(20000): {printing}\n"
        "inspection.inspect_bundle = chatter\n"
        "main.main()\n"
    )
    command = f'"{sys.executable}" -c "$CODE" inspect . | head -1; exit ${{PIPESTATUS[0]}}'
    result = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "CODE": code}, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")
    assert len(result.stdout.splitlines()) == 1


def test_no_color_means_no_bold_either():
    """FORCE_COLOR makes rich take a pipe for a terminal."""
    code = "from toolkit.cli.common import console; console.print('[bold]title[/bold]')"
    environment = {**os.environ, "TERM": "xterm-256color", "FORCE_COLOR": "1"}
    environment.pop("NO_COLOR", None)
    for extra, styled in (({}, True), ({"NO_COLOR": "1"}, False)):
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment | extra
        )
        assert ("\x1b[1m" in result.stdout) == styled, result


@pytest.mark.parametrize("terminal", [True, False])
def test_downloads_are_seen_coming(monkeypatch, terminal):
    """The hub library's own bars, on a terminal; ours waits until the model is open."""
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    main._silence_libraries()
    assert (os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS") is None) == terminal
    monkeypatch.setenv("NO_COLOR", "1")  # they are made of escape codes
    main._silence_libraries()
    assert os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    with ExportProgress(Console(file=io.StringIO(), force_terminal=terminal)) as progress:
        progress.stage("Opening model")
        assert not progress._bar.live.is_started
        progress.stage("Writing", 100)
        progress.advance(40)
        assert progress._bar.live.is_started == terminal
        assert progress._bar.tasks[0].completed == 40
    assert not progress._bar.live.is_started


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (999_499, "999 kB"),
        (999_600, "1 MB"),
        (999_700_000, "1 GB"),
        (1_234_000_000, "1.23 GB"),
        (2e15, "2000 TB"),
    ],
)
def test_bytes_have_three_digits_and_no_exponent(count, text):
    assert bytes_text(count) == text


def test_warnings_that_are_for_users_are_shown_as_lines():
    code = (
        "import warnings; from toolkit.cli.main import _silence_libraries\n"
        "from toolkit.errors import ToolkitWarning\n"
        "_silence_libraries()\n"
        "warnings.warn('of no interest', DeprecationWarning)\n"
        "warnings.warn('model.gguf is odd', ToolkitWarning)\n"
    )
    result = process(code=code)
    assert result.stderr == "warning: model.gguf is odd\n", result.stderr
