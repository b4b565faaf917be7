"""What `generate` and `chat` share: their options, Ctrl-C during a reply, and how replies look."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from toolkit.cli.common import console, say
from toolkit.cli.units import bytes_text
from toolkit.trace.units import plural

if TYPE_CHECKING:
    from toolkit.api.talking import Reply

RunOrBundle = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="Run as `toolkit pull` brings it, a PEFT adapter, or a bundle."
    ),
]
OfBundle = Annotated[
    Path | None,
    typer.Option("--bundle", help="The run's bundle. Default: found near the run by its hash."),
]
Adapter = Annotated[
    str | None,
    typer.Option(help="none, or the folder of an adapter. Default: the run's; none for a bundle."),
]
Compare = Annotated[
    bool, typer.Option("--compare", help="Reply with the adapter and without, side by side.")
]
System = Annotated[str | None, typer.Option(help="System prompt of the chat.")]
Stop = Annotated[
    list[str] | None, typer.Option(help="Text that ends a reply; may be given several times.")
]
Context = Annotated[
    int, typer.Option(min=0, help="Tokens of prompt and reply, at most; 0: the model's context.")
]
Threads = Annotated[int, typer.Option(min=0, help="On the device; 0 leaves it to it.")]


class Interrupt:
    """Ctrl-C while a reply is made: the first ends the reply, a later one the command.

    A device hears of the first when it has done the token or the part of the prompt under way.
    """

    def __init__(self, patience: float = 0) -> None:
        """Be ready; within `patience` seconds of the first, others only say that it was heard."""
        self.asked = False
        self._patience = patience
        self._since = 0.0

    def __call__(self) -> bool:
        return self.asked

    @contextmanager
    def during_reply(self) -> Iterator[None]:
        """Until the reply is there."""
        self.asked = False
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupted(self, _signal: int, _frame: FrameType | None) -> None:
        if not self.asked:
            self.asked, self._since = True, time.monotonic()
        elif time.monotonic() - self._since >= self._patience:
            raise KeyboardInterrupt
        else:
            # Not `say`: what is interrupted may be writing, and holds the console's lock.
            os.write(2, b"\nthe reply is being ended\n")


def show_text(text: str) -> None:
    """Print a piece of a reply as it is."""
    console.file.write(text)
    console.file.flush()


def name_of(adapter: str) -> str:
    """Return what a reply's column is called."""
    return "without adapter" if adapter == "none" else f"with {adapter}"


def show_side_by_side(replies: Sequence["Reply"]) -> None:
    """Print replies to one prompt in columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for reply in replies:
        table.add_column(name_of(reply.adapter), overflow="fold", ratio=1)
    table.add_row(*(Text(reply.text) for reply in replies))
    console.print(table)


def say_speed(reply: "Reply") -> None:
    """Print how fast a reply came and what it took, on standard error."""
    memory = reply.anonymous_bytes
    say(
        f"{name_of(reply.adapter)}: {plural(len(reply.tokens), 'token')} at "
        f"{reply.tokens_per_second:.1f} a second, {reply.computed_tokens} of the prompt at "
        f"{reply.prompt_tokens_per_second:.1f}; {bytes_text(memory)} of memory and "
        f"{bytes_text(reply.file_bytes)} of mapped files; ended by {reply.reason}"
    )
