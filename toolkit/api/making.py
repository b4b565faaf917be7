"""From a model to a bundle, and from text to data for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import ToolkitError
from toolkit.lora import LoraSettings, parse_targets
from toolkit.recipes import ExportDefaults, Recipe, get_recipe, recipe_of

if TYPE_CHECKING:
    from toolkit.bundle.bundle import Bundle
    from toolkit.bundle.export import Progress
    from toolkit.sources import Source

Place = str | PathLike[str]


def export(
    model: Place | None,
    output: Place,
    *,
    seq_lens: Sequence[int] | None = None,
    rank: int | None = None,
    alpha: float | None = None,
    targets: str | Sequence[str] | None = None,
    rslora: bool = False,
    rank_pattern: Mapping[str, int] | None = None,
    alpha_pattern: Mapping[str, float] | None = None,
    layers: str | None = None,
    lowering: str | None = None,
    quantization: str | None = None,
    embedding_quantization: str | None = None,
    seed: int = 0,
    adapter: Place | None = None,
    random_weights: str | None = None,
    progress: "Progress | None" = None,
) -> "Bundle":
    """Turn a model into a bundle of training programs and quantized weights.

    What is None comes from the model's recipe, else is `ExportDefaults`. `output` is complete or
    as it was before.

    Args:
        model: Model directory, hub id (OWNER/NAME), .gguf file, or recipe (name or path).
        output: Directory to write; an older bundle there is replaced.
        seq_lens: Sequence lengths in tokens, a set of programs for each.
        rank, alpha, targets: Of the adapters; alpha follows the rank, targets may be "all-linear".
        rslora: Scale adapters by alpha over the root of the rank, not over the rank.
        rank_pattern, alpha_pattern: Other ranks and alphas by target.
        layers: Layers with adapters, as "16-23", "0,4,8-11" or "last:8".
        lowering: "mesp" or "mebp".
        quantization: Of linear layers: "auto", "int4", "int4-symmetric" or "int8".
        embedding_quantization: The same of embedding and head.
        seed: Of the fresh adapter and of random weights.
        adapter: Folder of a PEFT adapter to start from; all of the above are its own.
        random_weights: Recipe whose shape gets random weights, instead of a model.
        progress: Told about stages and bytes.

    Returns:
        The bundle.

    Raises:
        ToolkitError: The model or a setting is not supported, or the disk is full.

    Example:
        >>> bundle = toolkit.export("HuggingFaceTB/SmolLM2-135M-Instruct", "bundle2", rank=4)
        >>> bundle.manifest["lora"]["alpha"]
        8.0
    """
    defaults, source = _defaults_and_source(model, random_weights, seed)
    from toolkit.bundle.bundle import Bundle
    from toolkit.bundle.export import ExportSettings, export_bundle

    start = None if adapter is None else Path(adapter)
    alphas = alpha_pattern or {}
    given = {
        "rank": rank,
        "alpha": alpha,
        "targets": None if targets is None else parse_targets(targets),
        "rslora": rslora or None,
        "rank_pattern": tuple(sorted((rank_pattern or {}).items())) or None,
        "alpha_pattern": tuple(sorted((n, float(a)) for n, a in alphas.items())) or None,
        "layers": layers,
    }
    given = {name: value for name, value in given.items() if value is not None}
    settings = ExportSettings(
        lora=_lora_settings(given, defaults) if start is None else _of_adapter(start, given),
        seq_lens=tuple(seq_lens or defaults.seq_lens),
        lowering=lowering or defaults.lowering,
        quantization=quantization or defaults.quantization,
        embedding_quantization=embedding_quantization or defaults.embedding_quantization,
        seed=seed,
        adapter=start,
    )
    export_bundle(source(), Path(output), settings, progress)
    return Bundle.open(fspath(output))


def _lora_settings(given: dict[str, Any], defaults: ExportDefaults) -> LoraSettings:
    rank = given.get("rank", defaults.rank)
    own: dict[str, Any] = {"rank": rank, "alpha": defaults.alpha_for(rank)}
    return LoraSettings(**{"targets": defaults.targets, **own, **given})


def _of_adapter(adapter: Path, given: dict[str, Any]) -> LoraSettings:
    """Return an adapter's settings, which those that are given must not contradict."""
    from toolkit.bundle.peft_files import read_peft_settings

    settings = read_peft_settings(adapter)
    for name, value in given.items():
        own = getattr(settings, name)
        if set(value) == set(own) if isinstance(own, tuple) else value == own:
            continue
        option, shown = f"--{name.replace('_', '-')}", settings.to_json()[name]
        text = f"{shown:g}" if isinstance(shown, float) else str(shown) or "all"
        if isinstance(shown, list):
            text = ",".join(shown)
        raise ToolkitError(
            f"{option} differs from the adapter in {adapter}, which has {text}",
            f"Leave {option} out: it is taken from the adapter",
        )
    return settings


def _defaults_and_source(
    model: Place | None, random_weights: str | None, seed: int
) -> "tuple[ExportDefaults, Callable[[], Source]]":
    """Return what an export does where nothing is asked for, and what opens the model."""
    if (model is None) == (random_weights is None):
        raise ToolkitError("either a model or a recipe for random weights is needed", "Give one")
    if model is None:
        shape = get_recipe(random_weights or "")
        return ExportDefaults.of(shape), lambda: _random_source(shape, seed)
    recipe = recipe_of(fspath(model))
    name = recipe.hub_id if recipe else fspath(model)

    def open_model() -> "Source":
        from toolkit.sources import open_source

        return open_source(name)

    return ExportDefaults.of(recipe), open_model


def _random_source(recipe: Recipe, seed: int) -> "Source":
    from toolkit.bundle.layout import parameter_shapes
    from toolkit.sources.random import RandomSource

    config = recipe.model_config()
    return RandomSource(config, parameter_shapes(config), recipe.name, seed)


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
    files: Sequence[Place],
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
        files: Files, folders of data sets, or their hub ids; see `toolkit data --help`.
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
    from toolkit.data.tokenizers import bundle_metadata, check_source

    own = bundle if tokenizer is None else tokenizer
    if own is None:
        raise ToolkitError("no tokenizer is given", "Give --tokenizer, or --bundle")
    source = fspath(own)
    metadata = bundle_metadata(source if bundle is None else fspath(bundle))
    if bundle is not None and metadata is None:
        raise ToolkitError(f"{bundle} is not a bundle", "Make one with `toolkit export`")
    check_source(source)
    length = _sequence_length(seq_len, metadata.seq_lens if metadata else None)
    out = Path(output)
    if random is not None:
        if metadata is None:
            raise ToolkitError("random tokens need a bundle, for its vocabulary", "Give --bundle")
        from toolkit.data.prepare import prepare_random

        seed, size = settings.get("seed", 0), metadata.vocab_size
        return DataSet(out, prepare_random(random, length, size, seed, out, metadata.tokenizer))
    from toolkit.data.settings import Settings
    from toolkit.data.template import read_template

    template = None if chat_template is None else read_template(Path(chat_template))
    chosen = Settings(length, **settings, chat_template=template)
    vocab = metadata.vocab_size if metadata else None
    return DataSet(out, _of_files(list(map(Path, files)), source, chosen, out, vocab, progress))


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


def _of_files(
    files: list[Path],
    source: str,
    settings: Any,
    out: Path,
    vocab: int | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    from toolkit.data.prepare import prepare_documents, read_input
    from toolkit.data.prepared import check_target
    from toolkit.data.tokenizers import load_tokenizer

    check_target(out)
    documents = read_input(files, settings)
    tokenizer = load_tokenizer(source)
    if vocab is not None and len(tokenizer) > vocab:
        raise ToolkitError(
            f"the tokenizer of {source} has {len(tokenizer)} tokens, the bundle {vocab}",
            "Use the tokenizer of the bundle's model",
        )
    return prepare_documents(documents, files, tokenizer, settings, progress).write(out)
