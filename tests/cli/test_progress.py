"""Progress: bars on a terminal, lines without escape codes under NO_COLOR, nothing in pipes."""

import io
import os
import pty
import subprocess
import sys

import pytest

from tests.support.chatml import SMOLLM2, make_tokenizer
from tests.support.models import save_model
from tests.support.tiny import tiny_config
from toolkit.cli import transfers
from toolkit.cli.common import _Console
from toolkit.cli.evaluate import _counting
from toolkit.cli.export_progress import ExportProgress
from toolkit.cli.progress import Bar, count_columns


class Screen(io.StringIO):
    """Standard error that may be a terminal."""

    terminal = True

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture(params=["colours", "no colours", "dumb", "pipe"])
def kind(request, monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "dumb" if request.param == "dumb" else "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    if request.param == "no colours":
        monkeypatch.setenv("NO_COLOR", "1")
    return request.param


@pytest.fixture
def screen(kind):
    screen = Screen()
    screen.terminal = kind != "pipe"
    return screen


@pytest.fixture
def console(screen, monkeypatch):
    """Standard error's console as it is on such a screen, in the commands' modules, too."""
    with monkeypatch.context() as beginning:
        beginning.setattr(sys, "stderr", screen)
        console = _Console(stderr=True)
    console.file = screen
    for module in ("transfers", "evaluate"):
        monkeypatch.setattr(f"toolkit.cli.{module}.error_console", console)
    return console


@pytest.fixture
def every_move(monkeypatch):
    """Let no move of a plain bar wait for the next."""
    monkeypatch.setattr("toolkit.cli.progress._SECONDS", 0.0)


def check(text: str, kind: str, *words: str) -> None:
    """Check that a bar showed what it should where it should."""
    if kind == "pipe":
        assert text == ""
        return
    for word in words:
        assert word in text, text
    assert ("\x1b" in text) == (kind == "colours")
    if kind != "colours":
        lines = text.replace("\n", "").split("\r")
        assert lines[-1] == "" and not lines[-2].strip(), "what was drawn is wiped"
        assert max(map(len, lines)) < 120


@pytest.mark.usefixtures("console", "every_move")
def test_transfers_show_size_speed_and_time_left(screen, kind):
    with transfers.transfer_bar("bundle [1]") as move:
        for done in (0, 2_000_000, 5_000_000):
            move("base.ptd", done, 10_000_000)
    check(screen.getvalue(), kind, "bundle [1] base.ptd", "5.0/10.0 MB", "B/s", "0:00:")


@pytest.mark.usefixtures("every_move")
def test_exports_show_size_speed_and_time_left(screen, console, kind):
    with ExportProgress(console) as progress:
        progress.stage("Opening model")
        progress.stage("Writing", 10_000_000)
        progress.advance(2_000_000)
        progress.advance(3_000_000)
    text = screen.getvalue()
    assert text.startswith("Opening model ...\n")
    if kind == "pipe":
        assert text == "Opening model ...\nWriting ...\n"
        return
    check(text.removeprefix("Opening model ...\n"), kind, "Writing", "5.0/10.0 MB", "B/s", "0:00:")


@pytest.mark.usefixtures("console", "every_move")
def test_evaluations_show_how_many_how_fast_and_how_long(screen, kind):
    with _counting("sequence")("with adapter", 40) as count:
        for done in (1, 2, 3):
            count(done, 40)
    check(screen.getvalue(), kind, "with adapter", " 3/40", "/s", "0:00:")


def test_lines_stand_above_a_bar_and_the_last_stays(screen, console, kind, every_move):
    with Bar(*count_columns(), console=console) as bar:
        task = bar.add_task("run1", total=2)
        bar.update(task, completed=1)
        bar.say("step 1: [held-out]")
        bar.update(task, completed=2)
    text = screen.getvalue()
    assert "step 1: [held-out]\n" in text
    if kind in ("no colours", "dumb"):
        assert "\x1b" not in text
        assert "\rstep 1: [held-out]\n\rrun1  2/2  " in text and text.endswith("\n")


def test_what_is_long_is_cut(screen, kind, console, every_move):
    """To the width of the terminal; of a dumb one rich assumes 80 columns."""
    if kind in ("no colours", "dumb"):
        name = "a name that is too long " * 10
        with Bar(*count_columns(), console=console, transient=True) as bar:
            bar.update(bar.add_task(name, total=9), completed=4)
        width = 119 if kind == "no colours" else 79
        assert console.width == width + 1
        assert screen.getvalue() == f"\r{name[:width]}\r{' ' * width}\r"


@pytest.fixture
def terminal(tmp_path):
    """What runs a command on a terminal of its own and returns all that it wrote there."""

    def run(*words: object) -> str:
        environment = {**os.environ, "TERM": "xterm-256color", "TOOLKIT_HOME": str(tmp_path)}
        environment.pop("FORCE_COLOR", None)
        main, side = pty.openpty()
        command = [sys.executable, "-m", "toolkit.cli.main", *map(str, words)]
        child = subprocess.Popen(
            command,
            stdin=side,
            stdout=side,
            stderr=side,
            cwd=tmp_path,
            env=environment | {"NO_COLOR": "1", "COLUMNS": "100"},
        )
        os.close(side)
        written = b""
        while chunk := _read(main):
            written += chunk
        os.close(main)
        code = child.wait(timeout=600)
        text = written.decode()
        assert "\x1b" not in text, (words, text)
        return f"{code} {text}"

    return run


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the last one who wrote is gone
        return b""


@pytest.mark.slow
def test_no_command_writes_an_escape_code_with_no_color(terminal, tmp_path):
    config = tiny_config("llama")
    config.vocab_size = 448
    save_model(tmp_path / "model", "llama", config=config)
    make_tokenizer(SMOLLM2).save_pretrained(tmp_path / "model")
    (tmp_path / "book.txt").write_text("hello there, how are you doing today? " * 60)
    for words, expected in (
        ("--help", "Commands"),
        ("data --help", "--show"),
        ("data", "give either files"),
        ("exprt", "Did you mean"),
        ("inspect none", "is not a bundle"),
        ("export model -o bundle --seq-len 32", "bundle: model"),
        ("inspect bundle", "Quantization error"),
        ("data book.txt --tokenizer bundle --show -o data", "\u27e6"),
        ("plan bundle", "MB"),
        ("devices", "local"),
        ("deploy bundle --data data", "unchanged"),
        ("train --steps 2 --out run1", "completed"),
        ("train --steps 3 --out run1 --resume --json", '"end"'),
        ("list", "run1"),
        ("pull run1 -o run1", "adapter_model.safetensors"),
        ("analyze run1", "MB"),
        ("compare run1 run1", "MB"),
        ("verify bundle --samples 1", "passed"),
        ("evaluate bundle --data data --adapter run1", "perplexity"),
        ("remove run1", "run1"),
        ("runtime list", "arm64"),
    ):
        written = terminal(*words.split())
        assert expected in written, (words, written)
        usage = words in ("data", "exprt")
        assert written.startswith("2 " if usage else "1 " if "none" in words else "0 "), written
