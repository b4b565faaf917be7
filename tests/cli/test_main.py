"""The `toolkit` command itself: help, version, exit codes, and how fast it starts."""

import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from toolkit import __version__
from toolkit.cli import main
from toolkit.errors import ToolkitError


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
