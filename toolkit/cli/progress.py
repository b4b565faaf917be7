"""Progress bars on standard error: size, speed, time left; nothing where there is no terminal."""

from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

_SECONDS = 0.1  # between two lines of a plain bar


class Bar(Progress):
    """rich's bar, which on a terminal without escape codes (NO_COLOR, TERM=dumb) is one line that
    is written over.
    """

    def __init__(self, *columns: ProgressColumn, **options: Any) -> None:
        super().__init__(*columns, **options)
        self.disable = self.disable or not self.console.is_terminal
        self._plain = not self.disable and self.console.is_dumb_terminal
        self._running = False
        self._drawn = 0.0
        self._width = 0

    def start(self) -> None:
        """Begin to show the bar."""
        self._running = True
        if not self._plain:
            super().start()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Move the bar, see `rich.progress.Progress.update`."""
        super().update(task_id, **changes)
        now = self.get_time()
        if self._plain and self._running and now - self._drawn >= _SECONDS:
            self._drawn = now
            self._draw(self._line())

    def say(self, line: str) -> None:
        """Print a line for people above the bar, as it is."""
        self._clear()
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """End the bar, which stays unless it is transient."""
        if not self._plain:
            super().stop()
        elif self._running and not self.live.transient:
            self._draw(self._line())
            self._write("\n")
            self._width = 0
        self._clear()
        self._running = False

    def _line(self) -> str:
        tasks = [task for task in self.tasks if task.visible]
        shown = [column(tasks[-1]) for column in self.columns if callable(column)] if tasks else []
        return "  ".join(part.plain for part in shown if isinstance(part, Text) and part.plain)

    def _draw(self, line: str) -> None:
        width = min(cell_len(line), self.console.width - 1)
        self._write(f"\r{set_cell_size(line, max(width, self._width))}")
        self._width = width

    def _clear(self) -> None:
        if self._width:
            self._draw("")
            self._write("\r")

    def _write(self, text: str) -> None:
        self.console.file.write(text)
        self.console.file.flush()


class RateColumn(ProgressColumn):
    """How many steps of a task were done in a second."""

    def render(self, task: Task) -> Text:
        """Return the speed, "" while it is not known."""
        speed = task.finished_speed or task.speed
        text = f"{speed:.3g}/s" if speed and speed < 100 else f"{speed:,.0f}/s" if speed else ""
        return Text(text, style="progress.data.speed")


def bytes_columns(*, spinner: bool = False) -> tuple[ProgressColumn, ...]:
    """Return what a bar of bytes shows: what, how far, of how much, how fast, how long still."""
    return (
        *([SpinnerColumn()] if spinner else []),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )


def count_columns() -> tuple[ProgressColumn, ...]:
    """Return the same for a bar that counts."""
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
