"""What every command shares: the console, JSON output and the exit codes."""

import json
from typing import Any

from rich.console import Console

console = Console()
error_console = Console(stderr=True)


def print_json(value: Any) -> None:
    """Print `value` as JSON on standard output, without markup."""
    print(json.dumps(value, indent=2, sort_keys=False))
