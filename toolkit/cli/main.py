"""The `toolkit` command: finds a command's file when it is called, so that `--help` stays fast."""

import importlib
import json
import logging
import os
import signal
import sys
import warnings
from types import FrameType
from typing import Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperGroup

from toolkit import __version__
from toolkit.cli.common import say
from toolkit.errors import ToolkitError, ToolkitWarning, explain_os_error
from toolkit.terminal import may_draw

COMMANDS = {
    "plan": "Predict memory and time from a model's shape, and fit them to a budget.",
    "export": "Turn a model into a bundle of training programs and quantized weights.",
    "inspect": "Show what a bundle holds (sizes, programs, quantization errors) or training data.",
    "data": "Turn text or chats into training data for a bundle.",
    "devices": "List the devices that can be reached.",
    "deploy": "Copy runtime, bundle and data to a device.",
    "finetune": "All in one: from a model and data to an adapter, trained on a device.",
    "train": "Train on a device, with progress; can be stopped and resumed.",
    "federate": "Train one adapter on many devices, whose data stays on them.",
    "stop": "End a run with everything saved.",
    "list": "Show what a device holds: bundles, data, runs, with sizes.",
    "remove": "Free what a device holds.",
    "pull": "Bring a run's trace and adapter back from a device.",
    "analyze": "Explain where a run's memory and time went.",
    "compare": "Show what grew from one run to another; a guard for memory budgets.",
    "replay": "Make the adapter of a zeroth-order run again from its list of estimates.",
    "verify": "Check a device's gradients against PyTorch, tensor by tensor.",
    "evaluate": "Measure loss, or tasks done right, with and without an adapter.",
    "generate": "Let a model reply on a device, with its adapter and without.",
    "chat": "Talk with a model on a device, with its adapter and without.",
    "merge": "Fold an adapter into its model, for programs that know no adapters.",
    "convert": "Write an adapter for llama.cpp.",
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


_READER_GONE = 128 + signal.SIGPIPE
_UsageError: Any = typer.BadParameter.__base__  # typer gives this class no name of its own


class _LazyGroup(TyperGroup):
    """Imports a command's module only when this command is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        names: Any = dict.fromkeys(COMMANDS)  # no commands: for suggestions after a typing error
        self.commands = names

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: Any) -> Any:
        as_json = "--json" in [*ctx._protected_args, *ctx.args]
        try:
            return super().invoke(ctx)
        except ToolkitError as error:
            return _fail(error, as_json)
        except BrokenPipeError:  # of our own output: a device's is a DeviceLost
            _drop_output()
            raise typer.Exit(_READER_GONE) from None
        except OSError as error:
            return _fail(explain_os_error(error), as_json)
        except KeyboardInterrupt:
            return _fail(ToolkitError("interrupted"), as_json, 130)
        except _UsageError as error:
            if as_json:
                path = (error.ctx or ctx).command_path
                _print_failure(error.format_message(), f"See `{path} --help`")
            raise


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
    try:
        app(prog_name="toolkit")
    except OSError as error:  # while help or version was written
        _fail_output(error)
    finally:
        _finish_output()


def _silence_libraries() -> None:
    """Keep warnings meant for programmers, of which the compiler has many, off the screen."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not may_draw():  # on a terminal gigabytes are seen coming
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", ToolkitWarning)
    warnings.showwarning = _show_warning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, ToolkitWarning):
        say(f"warning: {message}")
    else:
        say(warnings.formatwarning(message, category, filename, lineno, line).rstrip())


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


def _fail(error: ToolkitError, as_json: bool, code: int = 1) -> NoReturn:
    say(f"error: {error}")
    if as_json:
        _print_failure(error.cause, error.remedy)
    raise typer.Exit(code) from None


def _print_failure(cause: str, remedy: str) -> None:
    """Print a failure for machines: one line, since some commands print JSON lines."""
    print(json.dumps({"error": cause, "fix": remedy}))


def _finish_output() -> None:
    """Write what is still held back; at the interpreter's end a failure would be a traceback."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        sys.exit(_READER_GONE)
    except OSError as error:
        _fail_output(error)


def _fail_output(error: OSError) -> NoReturn:
    _drop_output()
    say(f"error: {explain_os_error(error)}")
    sys.exit(1)


def _drop_output() -> None:
    """Let what is still held back for standard output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    """Leave through the `finally` blocks, so that temporary files are removed."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
