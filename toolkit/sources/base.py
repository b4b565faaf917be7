"""What an export needs of a model's source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from toolkit.errors import ToolkitError
from toolkit.lora import TEXT_MODULE

if TYPE_CHECKING:  # what looks for a model on the hub need not wait for these
    from torch import Tensor
    from transformers import PretrainedConfig

Groups: TypeAlias = "tuple[Tensor, Tensor, Tensor | None]"
"""Codes [n, K], scale [n, K/32] and, for an affine scheme, offset [n, K/32]."""


class Source(ABC):
    """A model's configuration, weights and tokenizer.

    Weights are named as `transformers` names a causal language model's parameters, and are read in
    runs of rows, so that no more than a part of one tensor is in memory.

    Attributes:
        name: What the model is called.
        origin: Where it came from: a hub id, a path or a recipe.
        export_words: What `toolkit export` takes to open it again.
        base_model: What `transformers` loads it by, as far as it can: a hub id or a directory.
        revision: Commit of the hub repository, or "".
        license: Licence as the source states it, or "".
        config: Configuration of the model.
        is_random: Whether the weights are made up.
        text_module: Path of the module with the decoder layers in the model that adapters are for.
        left_out: Number of values of every part of the model that is not text, by its name.
        quantized_as: Types of the weights that are stored quantized, or ().
    """

    name: str
    origin: str
    export_words: tuple[str, ...]
    revision: str = ""
    license: str = ""
    config: PretrainedConfig
    is_random: bool = False
    text_module: str = TEXT_MODULE
    left_out: Mapping[str, int] = MappingProxyType({})
    quantized_as: tuple[str, ...] = ()

    @property
    def base_model(self) -> str:
        return self.origin

    @abstractmethod
    def names(self) -> list[str]:
        """Return every tensor of the source; one without a name in `transformers` has its own."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return a tensor's shape, or None if there is no such tensor."""

    @abstractmethod
    def rows(self, name: str, begin: int, end: int) -> Tensor:
        """Return rows [begin, end) of a tensor as contiguous float32."""

    def read(self, name: str) -> Tensor:
        """Return a whole tensor as float32."""
        return self.rows(name, 0, self.require(name)[0])

    def require(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor that must exist."""
        shape = self.shape(name)
        if shape is None:
            raise ToolkitError(
                f"{self.origin} has no tensor {name}",
                "The checkpoint is incomplete or of another architecture than its configuration",
            )
        return shape

    def can_take_over(self, name: str, scheme: str) -> bool:
        """Whether the tensor is stored in a form that `scheme` represents bit by bit."""
        return False

    def take_over(self, name: str, begin: int, end: int, scheme: str) -> Groups:
        """Return rows [begin, end) of a quantized tensor as it is stored."""
        raise NotImplementedError

    def save_tokenizer(self, directory: Path) -> bool:
        """Save the tokenizer as `transformers` saves it; False if the source has none."""
        return False

    def generation_config(self) -> Path | None:
        """Return the file with the settings that text is generated with, if the source has one."""
        return None
