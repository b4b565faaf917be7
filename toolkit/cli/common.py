"""What every command shares: the console, JSON output and the exit codes."""

import json
import os
import shutil
from typing import Any, NoReturn

from rich.console import Console


class _Console(Console):
    """A console that leaves a reader who went away (`| head`) to `toolkit.cli.main`.

    With NO_COLOR it prints no escape codes at all, those that move the cursor included.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        # Without a colour system nothing is styled; rich's own NO_COLOR keeps bold and dim.
        self._still = bool(os.environ.get("NO_COLOR"))
        if self._still:  # rich takes a terminal on which nothing moves to have 80 columns
            width, height = shutil.get_terminal_size()
            super().__init__(stderr=stderr, color_system=None, width=width, height=height)
        else:
            super().__init__(stderr=stderr)

    @property
    def is_dumb_terminal(self) -> bool:
        """Whether nothing can be moved or hidden, so that rich animates nothing."""
        return super().is_dumb_terminal or (self._still and self.is_terminal)

    def on_broken_pipe(self) -> NoReturn:
        """Called while the error is handled: pass it on."""
        raise


console = _Console()
error_console = _Console(stderr=True)


def print_json(value: Any) -> None:
    """Print `value` as JSON on standard output, without markup."""
    print(json.dumps(value, indent=2, sort_keys=False))


def say(line: str) -> None:
    """Print a line for people on standard error, as it is."""
    error_console.print(line, markup=False, highlight=False, soft_wrap=True)


def say_next(*commands: str) -> None:
    """Print the command, or the commands, that follow this one."""
    for command in commands:
        say(f"next: {command}")
