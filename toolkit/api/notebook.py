"""What notebooks show of things that the terminal prints."""

import html
import io
from collections.abc import Callable

from rich.console import Console


def printed(show: Callable[[Console], None], width: int = 100) -> str:
    """Return as HTML what `show` prints to a console."""
    console = Console(file=io.StringIO(), record=True, width=width, force_jupyter=False)
    show(console)
    text = console.export_html(inline_styles=True, code_format="{code}")
    return f'<pre style="line-height: 1.2">{text}</pre>'


def framed(page: str, height: int = 800) -> str:
    """Return a page in a frame of its own, so that its styles stay in it."""
    style = f"width: 100%; height: {height}px; border: 0"
    return f'<iframe srcdoc="{html.escape(page)}" style="{style}"></iframe>'
