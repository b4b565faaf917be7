"""`toolkit data`: text or chats to training data."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from toolkit.cli.common import console, error_console, print_json, say_next
from toolkit.cli.progress import Bar
from toolkit.data.documents import FormName
from toolkit.errors import ToolkitError
from toolkit.trace.units import plural

if TYPE_CHECKING:
    from toolkit.data.tokenizers import BundleFacts


def _input(word: str) -> Path:
    """Return a path; one that is spelt as such is no hub id, which a `Path` cannot tell."""
    path = Path(word)
    if word.startswith((".", "/", "~")) and not path.exists():
        raise ToolkitError(f"cannot read {word}: No such file or directory")
    return path


def data(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files, folders of data sets, or their hub ids.",
            show_default=False,
            parser=_input,
            metavar="<path>",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory to write; replaced if it is there.")
    ] = Path("data"),
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Bundle, model directory, .gguf file or hub id.", show_default=False),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="Bundle the data is for; also the default tokenizer.", show_default=False
        ),
    ] = None,
    seq_len: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens per sequence. Default: the bundle's longest."),
    ] = None,
    loss: Annotated[
        str, typer.Option(help="Tokens to learn: assistant (and completions), or all.")
    ] = "assistant",
    pack: Annotated[
        bool, typer.Option("--pack/--no-pack", help="Several short documents in one sequence.")
    ] = True,
    long: Annotated[
        str, typer.Option(help="Documents that are too long: split, truncate or drop.")
    ] = "split",
    form: Annotated[
        FormName,
        typer.Option("--format", help="What the files are; auto finds out from their content."),
    ] = "auto",
    me: Annotated[
        str | None,
        typer.Option(help="Whose messages to learn of a chat's export.", show_default=False),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Which split of a data set to read.  [default: train]"),
    ] = None,
    subset: Annotated[
        str | None,
        typer.Option(help="Which subset of a data set on the hub.", show_default=False),
    ] = None,
    validation: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.99,
            help="Share of the tokens to hold out: whole chats and documents, stretches of texts.",
        ),
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="Chooses what is held out, and random tokens.")] = 0,
    template: Annotated[
        bool,
        typer.Option("--template/--no-template", help="Chat template for prompt and completion."),
    ] = True,
    random: Annotated[
        int | None,
        typer.Option(min=1, help="Write this many random sequences instead.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what data.json says.")] = False,
) -> None:
    """Turn text or chats into training data for a bundle.

    \b
    JSON Lines, or a JSON list, hold records: {"text": ...}, {"prompt": ..., "completion": ...} or
    {"messages": [{"role": ..., "content": ...}, ...]}; the fields of Alpaca, ShareGPT and
    question-and-answer sets are known, too. CSV, TSV and Parquet have columns of these names, as
    have data sets of the Hugging Face hub (these and Parquet: pip install "toolkit[datasets]").
    Exports of WhatsApp and Telegram (result.json) need --me NAME: these messages become the
    assistant's, and six hours of silence begin a conversation; nothing leaves this machine.
    Any other text is one document. What is neither, such as a web page, is refused with a hint;
    --format text learns it as it is.

    Chats go through the model's chat template and the loss is taken on the assistant's tokens
    only, unless --loss all is given. Documents longer than the sequence length are split: text
    anywhere, chats before a user's turn.

    \b
    Examples:
      toolkit data chats.jsonl --tokenizer bundle -o data
      toolkit data book.txt notes.txt --tokenizer bundle --seq-len 128 -o data
      toolkit data chats.jsonl --tokenizer HuggingFaceTB/SmolLM2-135M-Instruct --seq-len 256 -o data
      toolkit data questions.csv answers.parquet --tokenizer bundle -o data
      toolkit data chat.txt result.json --me "Ann Smith" --tokenizer bundle -o data
      toolkit data HuggingFaceTB/smoltalk --subset everyday-conversations --tokenizer bundle -o data
      toolkit data --random 64 --seq-len 256 --bundle bundle -o data
    """
    from toolkit.data.tokenizers import bundle_metadata, check_source

    source = tokenizer or (str(bundle) if bundle else None)
    if (not files) == (random is None):
        raise typer.BadParameter("give either files or --random COUNT")
    unused = {"--me": me, "--split": split, "--subset": subset}
    given = [name for name, value in unused.items() if value is not None]
    if random is not None and given:
        raise typer.BadParameter(f"--random reads nothing, so it takes no {', '.join(given)}")
    if source is None:
        raise typer.BadParameter("give --tokenizer, or --bundle for random tokens")
    metadata = bundle_metadata(bundle or source)
    if bundle and metadata is None:
        raise ToolkitError(f"{bundle} is not a bundle", "Make one with `toolkit export`")
    check_source(source)
    length = _sequence_length(seq_len, metadata.seq_lens if metadata else None)
    if random is not None:
        report = _random(random, length, metadata, seed, output)
    else:
        from toolkit.data.settings import Settings

        settings = Settings(
            length, loss, pack, long, validation, seed, template, form, me, split, subset
        )
        vocab = metadata.vocab_size if metadata else None
        report = _files(files, source, settings, output, vocab, quiet=as_json)
    if as_json:
        print_json(report)
        return
    _print_report(report, output)
    target = (bundle or source) if metadata else "BUNDLE"
    say_next(f"toolkit deploy {target} --data {output}")


def _sequence_length(asked: int | None, available: list[int] | None) -> int:
    if available is None:
        if asked is None:
            raise typer.BadParameter("give --seq-len: the tokenizer is not a bundle's")
        return asked
    if asked is None:
        return max(available)
    if asked not in available:
        lengths = ", ".join(map(str, available))
        raise ToolkitError(
            f"the bundle has no programs for {asked} tokens (it has {lengths})",
            "Use one of these, or export with another --seq-len",
        )
    return asked


def _random(
    count: int, seq_len: int, metadata: "BundleFacts | None", seed: int, out: Path
) -> dict[str, Any]:
    from toolkit.data.prepare import prepare_random

    if metadata is None:
        raise typer.BadParameter("--random needs --bundle, for the size of the vocabulary")
    return prepare_random(count, seq_len, metadata.vocab_size, seed, out, metadata.tokenizer)


def _files(
    files: list[Path], source: str, settings: Any, out: Path, vocab: int | None, *, quiet: bool
) -> dict[str, Any]:
    from toolkit.data.prepare import prepare_documents, read_input
    from toolkit.data.tokenizers import load_tokenizer

    documents = read_input(files, settings, out)
    tokenizer = load_tokenizer(source)
    if vocab is not None and len(tokenizer) > vocab:
        raise ToolkitError(
            f"the tokenizer of {source} has {len(tokenizer)} tokens, the bundle {vocab}",
            "Use the tokenizer of the bundle's model",
        )
    columns = (
        TextColumn("documents"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bar(
        *columns,
        console=error_console,
        disable=quiet or not error_console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task("documents", total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return prepare_documents(documents, files, tokenizer, settings, out, advance)


def _print_report(report: dict[str, Any], out: Path) -> None:
    length = report["settings"]["seq_len"]
    dropped = ", ".join(f"{count} {why}" for why, count in report["dropped"].items()) or "none"
    _say(
        f"{plural(report['documents'], 'document')}: {report['split']} split, "
        f"{report['truncated']} truncated, dropped: {dropped}"
    )
    for part in ("train", "validation"):
        if part not in report:
            continue
        counts = report[part]
        share = counts["labelled"] / counts["tokens"]
        filled = counts["tokens"] / (counts["sequences"] * length)
        _say(
            f"{part}: {plural(counts['sequences'], 'sequence')} of {length} tokens "
            f"from {plural(counts['documents'], 'document')}, {counts['tokens']} tokens "
            f"({filled:.0%} filled), {counts['labelled']} labelled ({share:.0%})"
        )
    for line in _remarks(report):
        _say(line)
    _say(f"wrote {out}")


def _remarks(report: dict[str, Any]) -> Iterator[str]:
    """Yield what a user would not expect."""
    asked, length = report["settings"].get("validation", 0), report["settings"]["seq_len"]
    tokens = sum(report[part]["tokens"] for part in ("train", "validation") if part in report)
    if asked and "validation" not in report:
        yield "nothing is held out: that takes two different documents, or one of two sequences"
    elif asked and abs(report["held_out"] - asked) * tokens > length:
        yield (
            f"held out is {report['held_out']:.1%} of the tokens instead of {asked:.1%}: chats and "
            "documents that fit one sequence are held out whole"
        )
    if report["repaired"]:
        yield (
            f"{plural(report['repaired'], 'document')} had halves of characters (lone surrogates), "
            "now U+FFFD"
        )


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
