"""The `toolkit` command: finds a command's file when it is called, so that `--help` stays fast."""

import importlib
import logging
import os
import signal
import sys
import warnings
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from toolkit import __version__
from toolkit.cli.common import error_console
from toolkit.errors import ToolkitError

COMMANDS = {
    "plan": "Predict memory and time from a model's shape, and fit them to a budget.",
    "export": "Turn a model into a bundle of training programs and quantized weights.",
    "inspect": "Show what a bundle holds: sizes, programs, quantization errors.",
    "data": "Turn text or chats into training data for a bundle.",
    "devices": "List the devices that can be reached.",
    "deploy": "Copy runtime, bundle and data to a device.",
    "train": "Train on a device, with progress; can be stopped and resumed.",
    "pull": "Bring a run's trace and adapter back from a device.",
    "analyze": "Explain where a run's memory and time went.",
    "compare": "Show what grew from one run to another; a guard for memory budgets.",
    "verify": "Check a device's gradients against PyTorch, tensor by tensor.",
    "evaluate": "Measure loss and perplexity on a device, with and without an adapter.",
    "runtime": "Build the runtime that runs on devices.",
}
"""Every command and its line in `toolkit --help`; its code is in toolkit/cli/NAME.py."""

_EPILOG = """\b
Examples:
  toolkit export HuggingFaceTB/SmolLM2-135M-Instruct -o bundle --seq-len 256
  toolkit inspect bundle
  toolkit data chats.jsonl --tokenizer bundle -o data
  toolkit deploy bundle --data data --device local
  toolkit train --device local --steps 50 --out run1
  toolkit pull --device local run1 -o runs/run1
  toolkit analyze runs/run1

Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted."""


class _LazyGroup(TyperGroup):
    """Imports a command's module only when this command is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = dict.fromkeys(COMMANDS)  # names only: for suggestions after a typing error

    def list_commands(self, ctx: typer.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:
        return _load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ToolkitError as error:
            _print_error(str(error))
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            _print_error("interrupted")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"toolkit {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Fine-tune language models on the phone: export, deploy, train, pull, analyze."""


def main() -> None:
    """Run the command line; the process exits with the codes that `toolkit --help` names."""
    signal.signal(signal.SIGTERM, _terminated)
    _silence_libraries()
    app(prog_name="toolkit")


def _silence_libraries() -> None:
    """Keep warnings meant for programmers, of which the compiler has many, off the screen."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _load(name: str) -> Any:
    """Build the command of toolkit/cli/NAME.py: its function NAME, or its typer app `app`."""
    module = importlib.import_module(f"toolkit.cli.{name}")
    sub_app = getattr(module, "app", None)
    if not isinstance(sub_app, typer.Typer):
        sub_app = typer.Typer(rich_markup_mode=None, add_completion=False)
        sub_app.command(name)(getattr(module, name))
    sub_app._add_completion = False
    sub_app.rich_markup_mode = None
    command = typer.main.get_command(sub_app)
    command.name = name
    command.context_settings["help_option_names"] = ["-h", "--help"]
    return command


def _print_error(message: str) -> None:
    error_console.print(
        f"error: {message}", markup=False, highlight=False, soft_wrap=True, style=None
    )


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    """Leave through the `finally` blocks, so that temporary files are removed."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
