"""`toolkit finetune`: export, data, deploy, train, pull and analyze in one command."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.api.devices import Deployment
from toolkit.api.preparing import DataSet
from toolkit.api.runs import Result, TrainingRun
from toolkit.cli.common import console, error_console, print_json, say, say_next
from toolkit.cli.data_report import count_lines, print_line, refused_rows
from toolkit.cli.deploy import say_sent
from toolkit.cli.export import content_line
from toolkit.cli.export_progress import ExportProgress
from toolkit.cli.flags import takes
from toolkit.cli.progress import Bar, count_columns
from toolkit.cli.train_watch import say_time, watch
from toolkit.cli.transfers import transfer_bar
from toolkit.device.transfer import Progress
from toolkit.finetuning.shown import Shown
from toolkit.settings.config import read_config
from toolkit.settings.declaration import Value
from toolkit.settings.merging import merged
from toolkit.settings.training import FLAGS, SETTINGS, TrainSettings
from toolkit.tracking.flags import trackers_of

if TYPE_CHECKING:
    from toolkit.bundle.bundle import Bundle
    from toolkit.bundle.export import Progress as OnExport

_OWN = ("out", "bundle", "data", "adapter")
"""Flags of `toolkit train` that are not chosen here: they follow from the work folder."""


@takes([known for flag, known in FLAGS.items() if flag not in _OWN])
def finetune(
    flags: dict[str, Value],
    *,
    model: Annotated[
        str,
        typer.Argument(help="Model directory, hub id, .gguf file, recipe, or a bundle."),
    ],
    files: Annotated[
        list[str], typer.Argument(help="What to learn: as `toolkit data` takes it.", metavar="DATA")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Work folder. [default: runs/ and the model's name]",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of settings, as `toolkit train --config` takes it.", metavar="FILE"
        ),
    ] = None,
    seq_len: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of a sequence. [default: 256, or the recipe's]"),
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="LoRA rank. [default: 8]")] = None,
    targets: Annotated[
        str | None,
        typer.Option(help="Projections with adapters, as of toolkit export.", show_default=False),
    ] = None,
    me: Annotated[
        str | None,
        typer.Option(help="Whose messages to learn of a chat's export.", show_default=False),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(min=0, max=0.99, help="Share of the tokens to hold out. [default: 0.05]"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print at the end what there is, as JSON.")
    ] = False,
) -> None:
    """Go from a model and data to an adapter that a device trained.

    Every step prints the command it stands for, which runs by itself, too. A step whose inputs have
    not changed is skipped: the same command again does nothing, and after Ctrl-C (which stops the
    run with everything saved), a broken cable or an error it goes on where that was. Other data or
    settings begin a new run, as run-2 (and with --csv steps.csv in steps-2.csv); what earlier ones
    brought stays. Without --steps and --epochs the data is seen once.

    \b
    Examples:
      toolkit finetune HuggingFaceTB/SmolLM2-135M-Instruct chats.jsonl
      toolkit finetune SmolLM2-135M-Instruct.Q4_1.gguf chats.jsonl --epochs 3 -o runs/chats
      toolkit finetune smollm2-135m chats.jsonl --device SERIAL --config run.yaml --csv steps.csv
      toolkit finetune ./my-llama book.txt notes.txt --steps 100 --seq-len 128
    """
    given = flags if config is None else merged(read_config(config), flags)
    named = [f"{flag!r}" for flag in _OWN if flag in given]
    if named:
        raise typer.BadParameter(f"{config} has {', '.join(named)}, which the work folder decides")
    settings = TrainSettings.of({k.flag: given[k.flag] for k in SETTINGS if k.flag in given})
    trackers = trackers_of(given)
    shown = _Lines(quiet=as_json)

    from toolkit import finetune as carry_out
    from toolkit.finetuning.steps import Unfinished

    try:
        result = carry_out(
            model,
            files,
            output,
            settings=settings,
            device=str(given.get("device", "local")),
            seq_len=seq_len,
            rank=rank,
            targets=targets,
            me=me,
            validation=validation,
            trackers=trackers,
            shown=shown,
        )
    except Unfinished as error:
        say(f"{error}")
        raise typer.Exit(130) from None
    if as_json:
        adapter = None if result.adapter_path is None else str(result.adapter_path)
        print_json({"path": str(result.path), "adapter": adapter, "steps": shown.steps})
        return
    _conclude(result, model, str(given.get("device", "local")))


class _Lines(Shown):
    """The commands on standard error, a line each, and the progress of each."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self.steps: list[dict[str, str | bool]] = []

    def step(self, words: Sequence[str], reason: str, *, skipped: bool) -> None:
        line = shlex.join(words)
        self.steps.append({"command": line, "skipped": skipped, "reason": reason})
        say(f"$ {line}")
        if skipped:
            say(f"  skipped: {reason}")

    @contextmanager
    def exporting(self) -> "Iterator[OnExport | None]":
        with ExportProgress(error_console) as progress:
            progress.stage("Opening model")
            yield progress

    def exported(self, bundle: "Bundle") -> None:
        say(f"{bundle.path}: {content_line(bundle.manifest)}")

    @contextmanager
    def preparing(self) -> Iterator[Callable[[int, int], None] | None]:
        bar = Bar(*count_columns(), console=error_console, disable=self._quiet, transient=True)
        with refused_rows(), bar as progress:
            task = progress.add_task("documents", total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def prepared(self, data: DataSet) -> None:
        for line in count_lines(data.report):
            say(line)

    def bars(self, what: str) -> AbstractContextManager[Progress]:
        return transfer_bar(what)

    def sent(self, done: Deployment) -> None:
        say_sent(done)

    def takes(self, seconds: float) -> None:
        say_time(seconds)

    def watch(self, run: TrainingRun, steps: int, *, fresh: bool) -> None:
        watch(run.watching, steps, as_json=False, forecast=fresh, hints=False)

    def say(self, line: str) -> None:
        say(line)


def _conclude(result: Result, model: str, device: str) -> None:
    from toolkit.trace.summary import print_summary

    print_summary(console, result.analysis)
    folder = result.path.parent
    print_line(f"\nAdapter: {result.adapter_path}")
    print_line(f"Report: {result.path / 'report.html'}")
    bundle = model if (Path(model) / "manifest.json").is_file() else str(folder / "bundle")
    what = [bundle, "--data", str(folder / "data"), "--adapter", str(result.path)]
    where = [] if device == "local" else ["--device", device]
    say_next(shlex.join(["toolkit", "evaluate", *what, *where]))
