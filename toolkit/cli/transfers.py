"""A progress bar for transfers, shared by deploy and pull."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape

from toolkit.cli.common import error_console
from toolkit.cli.progress import Bar, bytes_columns
from toolkit.device.transfer import Progress as OnProgress


@contextmanager
def transfer_bar(what: str) -> Iterator[OnProgress]:
    """Show a bar on standard error and yield the function that moves it."""
    with Bar(*bytes_columns(), console=error_console, transient=True) as bar:
        task = bar.add_task(escape(what), total=None)

        def move(name: str, done: int, total: int) -> None:
            description = escape(f"{what} {name}".strip())
            bar.update(task, completed=done, total=total, description=description)

        yield move
