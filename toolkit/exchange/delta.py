"""An adapter as what it adds to each weight: s B A."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import PretrainedConfig

from toolkit.bundle.adapter import check_peft_weights, peft_weights
from toolkit.bundle.layout import adapter_specs
from toolkit.bundle.peft_files import read_peft_settings
from toolkit.bundle.weights import check_finite
from toolkit.families import family_of
from toolkit.lora import LoraSettings
from toolkit.sources import Source


@dataclass(frozen=True)
class LowRankPair:
    """One projection's adapter.

    Attributes:
        weight: Name of the weight in `transformers`.
        a: float32 [R, K].
        b: float32 [N, R].
        scaling: What their product is multiplied by.
    """

    weight: str
    a: Tensor
    b: Tensor
    scaling: float

    def rows(self, begin: int, end: int) -> Tensor:
        """Return rows [begin, end) of what it adds to the weight, float32 [n, K]."""
        return self.scaling * (self.b[begin:end] @ self.a)


@dataclass(frozen=True)
class Delta:
    """A whole adapter; pairs by the name of their weight."""

    settings: LoraSettings
    pairs: dict[str, LowRankPair]


def read_delta(adapter: Path, config: PretrainedConfig) -> Delta:
    """Read a PEFT adapter for a model.

    Raises:
        ToolkitError: It is no LoRA adapter, or not one of this model.
    """
    settings = family_of(config).resolve(config, read_peft_settings(adapter))
    specs = adapter_specs(config, settings)
    check_peft_weights(adapter, specs)
    tensors = peft_weights(adapter, specs)
    pairs = {}
    for spec in specs[::2]:
        module = spec.name.removesuffix(".lora_A.weight")
        scaling = settings.scaling_of(module.rpartition(".")[2])
        name = f"model.{module}.weight"
        pairs[name] = LowRankPair(name, next(tensors), next(tensors), scaling)
    return Delta(settings, pairs)


def merged_rows(
    source: Source, name: str, pair: LowRankPair | None
) -> Iterator[tuple[int, Tensor]]:
    """Yield a weight in runs of rows, each after the number of its first, with the adapter added.

    Raises:
        ToolkitError: The weight is missing or not of the adapter's model, or a sum is not finite.
    """
    shape = source.require(name)
    for begin, end in runs_of_rows(shape[0], shape[1] if len(shape) > 1 else 1):
        part = source.rows(name, begin, end)
        if pair is not None:
            part = part + pair.rows(begin, end)
        check_finite(name, part)
        yield begin, part


def runs_of_rows(n: int, k: int, elements: int = 1 << 22) -> Iterator[tuple[int, int]]:
    """Yield [begin, end) of runs of rows of a matrix [n, k], each of about so many elements.

    Runs begin at multiples of 16, the rows of a panel.
    """
    step = max(16, elements // max(1, k) // 16 * 16)
    for begin in range(0, n, step):
        yield begin, min(n, begin + step)
