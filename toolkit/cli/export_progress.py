"""The progress bar of `toolkit export`."""

from types import TracebackType

from rich.console import Console
from rich.progress import TaskID

from toolkit.cli.progress import Bar, bytes_columns


class ExportProgress:
    """Shows one line per stage; prints nothing but stage names where there is no terminal.

    The first stage opens the model, which may download it with the hub library's own bars: ours
    begins with the second.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Bar(*bytes_columns(spinner=True), console=console, transient=True)
        self._task: TaskID | None = None
        self._stages = 0

    def __enter__(self) -> "ExportProgress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def stage(self, text: str, total: int = 0) -> None:
        """Begin a stage; without a total the bar only moves."""
        self._stages += 1
        if not self._console.is_terminal or self._stages == 1:
            self._console.print(f"{text} ...", markup=False, highlight=False)
        if self._stages == 1:
            return
        self._bar.start()
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(text, total=total or None)

    def advance(self, count: int) -> None:
        """Count bytes of the stage."""
        if self._task is not None:
            self._bar.update(self._task, advance=count)
