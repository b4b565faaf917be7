"""Bundles of tiny random models."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from tests.support.chatml import SMOLLM2, make_tokenizer
from tests.support.tiny import tiny_config
from toolkit.bundle.adapter import LoraSettings
from toolkit.bundle.export import ExportSettings, export_bundle
from toolkit.bundle.layout import parameter_shapes
from toolkit.lora import PROJECTIONS
from toolkit.sources.random import RandomSource


class SourceWithTokenizer(RandomSource):
    """Random weights with a tokenizer, that of `tests.support.chatml` with 400 tokens if none."""

    def __init__(
        self, *arguments: Any, tokenizer: PreTrainedTokenizerFast | None = None, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._tokenizer = tokenizer or make_tokenizer(SMOLLM2)

    def save_tokenizer(self, directory: Path) -> bool:
        self._tokenizer.save_pretrained(directory)
        return True


def export_tiny(
    folder: Path,
    family: str,
    *,
    tied: bool = True,
    layers: int = 2,
    lowering: str = "mesp",
    seq_lens: tuple[int, ...] = (24,),
    rank: int = 4,
    lora: LoraSettings | None = None,
    seed: int = 1,
    generation: bool = False,
) -> Path:
    """Export a tiny model with random weights, large enough that no gradient is tiny.

    Programs that generate take time to make, so only who needs them asks for them.
    """
    config = tiny_config(family, layers=layers, tied=tied)
    config.initializer_range = 0.2
    source = RandomSource(config, parameter_shapes(config), f"tiny-{family}", seed=seed)
    lora = lora or LoraSettings(rank, 2.0 * rank, PROJECTIONS)
    settings = ExportSettings(lora, seq_lens, lowering, generation=generation)
    export_bundle(source, folder, settings)
    return folder


def export_with_tokenizer(
    folder: Path,
    *,
    seq_len: int = 32,
    tokenizer: PreTrainedTokenizerFast | None = None,
    generation: bool = False,
    context: int = 256,
) -> Path:
    """Export a tiny model of rank 4 and alpha 8 that has a tokenizer.

    With one of the caller's its vocabulary is that of the tokenizer's model, without added tokens.
    """
    config = tiny_config("llama")
    config.vocab_size = 448 if tokenizer is None else tokenizer.vocab_size
    config.initializer_range = 0.2
    config.max_position_embeddings = context
    shapes = parameter_shapes(config)
    source = SourceWithTokenizer(config, shapes, "tiny", seed=1, tokenizer=tokenizer)
    lora = LoraSettings(4, 8.0, PROJECTIONS)
    export_bundle(source, folder, ExportSettings(lora, (seq_len,), generation=generation))
    return folder
