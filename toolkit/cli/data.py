"""`toolkit data`: text or chats to training data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli.common import error_console, print_json, say, say_next
from toolkit.cli.data_report import print_counts, print_line, refused_rows, say_left_out
from toolkit.cli.progress import Bar, count_columns
from toolkit.cli.samples import SHOWN, ShowCommand, print_samples
from toolkit.data.documents import FormName
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from toolkit.data.prepared import Prepared
    from toolkit.data.showing import Sample
    from toolkit.data.tokenizers import BundleFacts

_OUTPUT = Path("data")


app = typer.Typer()


def _input(word: str) -> Path:
    """Return a path; one that is spelt as such is no hub id, which a `Path` cannot tell."""
    path = Path(word)
    if word.startswith((".", "/", "~")) and not path.exists():
        raise ToolkitError(f"cannot read {word}: No such file or directory")
    return path


@app.command("data", cls=ShowCommand)
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
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Directory to write; replaced if it is there. [default: data; none with --show]",
            show_default=False,
        ),
    ] = None,
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
    chat_template: Annotated[
        Path | None,
        typer.Option(
            help="Jinja file to use instead of the tokenizer's chat template.", show_default=False
        ),
    ] = None,
    random: Annotated[
        int | None,
        typer.Option(min=1, help="Write this many random sequences instead.", show_default=False),
    ] = None,
    show: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="[N]",
            help=f"Show N sequences ({SHOWN}) as the model will see them, what is learned marked.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what data.json says, and with --show the samples.")
    ] = False,
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
    only, unless --loss all is given. Another template comes with --chat-template FILE; it goes
    along with the data, which fits the same bundle. Documents longer than the sequence length are
    split: text anywhere, chats before a user's turn. --show prints sequences as the model will see
    them, and writes nothing unless -o is given, too.

    \b
    Examples:
      toolkit data chats.jsonl --tokenizer bundle -o data
      toolkit data chats.jsonl --tokenizer bundle --show
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
    unused = {"--me": me, "--split": split, "--subset": subset, "--show": show}
    given = [name for name, value in unused.items() if value is not None]
    given += ["--chat-template"] if chat_template else []
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
        out: Path | None = output or _OUTPUT
        report = _random(random, length, metadata, seed, output or _OUTPUT)
        samples = []
    else:
        from toolkit.data.settings import Settings
        from toolkit.data.template import read_template

        settings = Settings(
            length,
            loss,
            pack,
            long,
            validation,
            seed,
            template,
            form,
            me,
            split,
            subset,
            chat_template=read_template(chat_template) if chat_template else None,
        )
        vocab = metadata.vocab_size if metadata else None
        out = output if show else output or _OUTPUT
        prepared, loaded = _prepare(files or [], source, settings, out, vocab, quiet=as_json)
        report = prepared.write(out) if out else prepared.report
        samples = _samples(prepared, loaded, show) if show else []
        say_left_out(prepared.left_out)
    if as_json:
        shown = {"samples": [sample.to_json() for sample in samples]} if show else {}
        print_json(report | shown)
        return
    if show:
        print_samples(samples, report["train"]["sequences"])
    print_counts(report)
    if out is None:
        say(f"nothing is written; with -o {_OUTPUT} it is")
        return
    print_line(f"wrote {out}")
    target = (bundle or source) if metadata else "BUNDLE"
    say_next(f"toolkit deploy {target} --data {out}")


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


def _samples(prepared: "Prepared", tokenizer: Any, count: int) -> list["Sample"]:
    from toolkit.data.showing import show_rows

    return show_rows(prepared.rows["train"], tokenizer, count, prepared.sources["train"])


def _prepare(
    files: list[Path],
    source: str,
    settings: Any,
    out: Path | None,
    vocab: int | None,
    *,
    quiet: bool,
) -> tuple["Prepared", Any]:
    """Return the rows of files, and the tokenizer that made them."""
    from toolkit.data.prepare import prepare_documents, read_input
    from toolkit.data.prepared import check_target
    from toolkit.data.tokenizers import load_tokenizer

    if out is not None:
        check_target(out)
    with refused_rows():
        documents = read_input(files, settings)
    tokenizer = load_tokenizer(source)
    if vocab is not None and len(tokenizer) > vocab:
        raise ToolkitError(
            f"the tokenizer of {source} has {len(tokenizer)} tokens, the bundle {vocab}",
            "Use the tokenizer of the bundle's model",
        )
    bar = Bar(*count_columns(), console=error_console, disable=quiet, transient=True)
    with refused_rows(), bar as progress:
        task = progress.add_task("documents", total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        prepared = prepare_documents(documents, files, tokenizer, settings, advance)
    return prepared, tokenizer
