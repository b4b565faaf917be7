"""From text to data for a bundle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from toolkit.data.prepared import Prepared
    from toolkit.data.settings import Settings
    from toolkit.data.tokenizers import BundleFacts

Place = str | PathLike[str]


@dataclass(frozen=True)
class DataSet:
    """Training data.

    Attributes:
        path: The folder, to deploy with its bundle.
        report: What its data.json says: settings, counts, what was dropped.
    """

    path: Path
    report: dict[str, Any]

    @property
    def sequences(self) -> int:
        """Sequences to train on."""
        return int(self.report["train"]["sequences"])

    def __fspath__(self) -> str:
        return str(self.path)


def prepare_data(
    files: Place | Sequence[Place],
    *,
    tokenizer: Place | None = None,
    output: Place = "data",
    bundle: Place | None = None,
    seq_len: int | None = None,
    random: int | None = None,
    chat_template: Place | None = None,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> DataSet:
    """Turn text or chats into training data for a bundle.

    Args:
        files: File, or files, folders of data sets, or their hub ids; see `toolkit data --help`.
        tokenizer: Bundle, model directory, .gguf file or hub id.
        output: Directory to write; replaced if it is there.
        bundle: The bundle the data is for; also the default tokenizer.
        seq_len: Tokens of a sequence; None: the bundle's longest.
        random: Write so many random sequences instead, seeded by `seed`.
        chat_template: Jinja file to use instead of the tokenizer's own template.
        progress: Called with documents done and documents in all.
        settings: Those of `toolkit.data.settings.Settings`: loss, pack, long, validation, seed,
            template, form, me, split, subset.

    Raises:
        ToolkitError: A file cannot be read, a row is bad, or no trainable token is left.

    Example:
        >>> data = toolkit.prepare_data(["chats.jsonl"], tokenizer="bundle", output="data2")
        >>> data.sequences > 0
        True
    """
    names = [files] if isinstance(files, str | PathLike) else files
    target = Target.of(tokenizer, bundle, seq_len)
    out = Path(output)
    if random is not None:
        given = {"files": names, "chat_template": chat_template, **settings, "seed": None}
        if unused := [name for name, value in given.items() if value not in (None, [], ())]:
            raise ToolkitError(f"random tokens take no {', '.join(unused)}", "Leave that away")
        return DataSet(out, target.random(random, settings.get("seed", 0), out))
    from toolkit.data.settings import Settings
    from toolkit.data.template import read_template

    template = None if chat_template is None else read_template(Path(chat_template))
    chosen = Settings(target.seq_len, **settings, chat_template=template)
    prepared, _ = target.prepare(list(map(Path, names)), chosen, out, progress)
    return DataSet(out, prepared.write(out))


@dataclass(frozen=True)
class Target:
    """What data is made for.

    Attributes:
        source: Where its tokenizer is.
        bundle: What is known of the bundle, if it is one.
        seq_len: Tokens of a sequence.
    """

    source: str
    bundle: "BundleFacts | None"
    seq_len: int

    @classmethod
    def of(cls, tokenizer: Place | None, bundle: Place | None, seq_len: int | None) -> "Target":
        """Return the target that these options mean; see `prepare_data`.

        Raises:
            ToolkitError: They are too few, or name something else.
        """
        from toolkit.data.tokenizers import bundle_metadata, check_source

        own = bundle if tokenizer is None else tokenizer
        if own is None:
            raise ToolkitError("no tokenizer is given", "Give --tokenizer, or --bundle")
        source = fspath(own)
        facts = bundle_metadata(source if bundle is None else fspath(bundle))
        if bundle is not None and facts is None:
            raise ToolkitError(f"{bundle} is not a bundle", "Make one with `toolkit export`")
        check_source(source)
        return cls(source, facts, _sequence_length(seq_len, facts.seq_lens if facts else None))

    def random(self, count: int, seed: int, out: Path) -> dict[str, Any]:
        """Write so many random sequences into `out` and return what data.json says."""
        from toolkit.data.prepare import prepare_random

        if self.bundle is None:
            raise ToolkitError("random tokens need a bundle, for its vocabulary", "Give --bundle")
        size, tokenizer = self.bundle.vocab_size, self.bundle.tokenizer
        return prepare_random(count, self.seq_len, size, seed, out, tokenizer)

    def prepare(
        self,
        files: list[Path],
        settings: "Settings",
        out: Path | None,
        progress: Callable[[int, int], None] | None,
    ) -> tuple["Prepared", Any]:
        """Return the data of files, to be written into `out` if anywhere, and the tokenizer."""
        from toolkit.data.prepare import prepare_documents, read_input
        from toolkit.data.prepared import check_target
        from toolkit.data.tokenizers import load_tokenizer

        if out is not None:
            check_target(out)
        documents = read_input(files, settings)
        tokenizer = load_tokenizer(self.source)
        # Tokens that were added may be of another part of the model: Gemma 3's has none for images.
        if self.bundle and tokenizer.vocab_size > self.bundle.vocab_size:
            raise ToolkitError(
                f"the tokenizer of {self.source} has {tokenizer.vocab_size} tokens, "
                f"the bundle {self.bundle.vocab_size}",
                "Use the tokenizer of the bundle's model",
            )
        data = prepare_documents(documents, files, tokenizer, settings, progress)
        if self.bundle:
            _check_tokens(data, tokenizer, self.bundle.vocab_size)
        return data, tokenizer


def _check_tokens(data: "Prepared", tokenizer: Any, vocab_size: int) -> None:
    for rows in data.rows.values():
        highest = max(
            (int(part.max()) for part in (rows.tokens, rows.labels) if part.size), default=0
        )
        if highest >= vocab_size:
            raise ToolkitError(
                f"the text has {tokenizer.convert_ids_to_tokens(highest)}, of which the bundle's "
                "model knows nothing",
                "Take it out of the text",
            )


def _sequence_length(asked: int | None, available: list[int] | None) -> int:
    if available is None:
        if asked is None:
            raise ToolkitError("the tokenizer is not a bundle's", "Give --seq-len")
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
