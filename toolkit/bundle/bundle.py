"""Read a bundle on the host."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from toolkit.bundle import manifest as manifests
from toolkit.bundle.flat_tensor import FlatTensorReader
from toolkit.errors import ToolkitError
from toolkit.quantization.packing import QuantizedTensor
from toolkit.sources.tokenizer import open_tokenizer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class Bundle:
    """An exported model.

    Attributes:
        path: The directory.
        manifest: Content of manifest.json, see `toolkit.bundle.manifest`.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | Path) -> "Bundle":
        """Open a bundle; its files' sizes are checked, their hashes only by `check_hashes`.

        Raises:
            ToolkitError: There is no bundle, or it is damaged or of another version.
        """
        path = Path(path)
        return cls(path, manifests.read_manifest(path))

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r})"

    @functools.cached_property
    def base(self) -> FlatTensorReader:
        """The frozen weights."""
        return FlatTensorReader(self.path / manifests.BASE)

    @functools.cached_property
    def adapter(self) -> FlatTensorReader:
        """The adapter that training starts from."""
        return FlatTensorReader(self.path / manifests.ADAPTER)

    @functools.cached_property
    def config(self) -> "PretrainedConfig":
        """Configuration of the model, as `transformers` loads it."""
        from transformers import AutoConfig

        config: PretrainedConfig = AutoConfig.from_pretrained(self.path)
        return config

    @property
    def programs_path(self) -> Path:
        """The ExecuTorch programs."""
        return self.path / manifests.PROGRAMS

    def quantized(self, key: str) -> QuantizedTensor:
        """Return a quantized weight, e.g. "layers.0.self_attn.q_proj" or "embed_tokens".

        Its rows are padded to a multiple of 16.
        """
        offset = f"{key}.offset"
        return QuantizedTensor(
            self.base.tensor(f"{key}.codes"),
            self.base.tensor(f"{key}.scale"),
            self.base.tensor(offset) if offset in self.base else None,
        )

    def parameters(self, dtype: torch.dtype = torch.float32) -> Iterator[tuple[str, Tensor]]:
        """Yield the name in `transformers` and the dequantized value of every parameter.

        A tied head is not repeated. One parameter at a time is in memory.
        """
        from toolkit.families import family_of

        offset = family_of(self.config).norm_offset
        for key in self.base:
            if key.endswith(".codes"):
                name = key.removesuffix(".codes")
                weight = self.quantized(name).dequantize(dtype)
                if name in ("embed_tokens", "lm_head"):
                    weight = weight[: self.manifest["shape"]["vocab_size"]]
                yield _parameter_name(f"{name}.weight"), weight
            elif key.endswith((".weight", ".bias")):
                value = self.base.tensor(key).to(dtype)
                # Biases have none; the difference is exact in all that is near one.
                yield _parameter_name(key), value - offset if key.endswith(".weight") else value

    def reference_model(self, dtype: torch.dtype = torch.float32) -> "PreTrainedModel":
        """Return the `transformers` model with the dequantized weights, in evaluation mode."""
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_config(self.config, attn_implementation="eager")
        model.to(dtype)
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in self.parameters(dtype):
                parameters.pop(name).copy_(value)
        if parameters:
            raise ToolkitError(f"The bundle {self.path} lacks {', '.join(parameters)}")
        return cast("PreTrainedModel", model.eval())

    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Load the tokenizer.

        Raises:
            ToolkitError: The bundle has none, because its weights are random.
        """
        if "tokenizer_config.json" not in self.manifest["files"]:
            raise ToolkitError(
                f"The bundle {self.path} has no tokenizer",
                "Export a model that has one; data without text comes from: toolkit data --random",
            )
        return cast("PreTrainedTokenizerBase", open_tokenizer(self.path))

    def check_hashes(self) -> None:
        """Check the SHA-256 of every file.

        Raises:
            ToolkitError: Naming the first file that differs.
        """
        manifests.check_hashes(self.path, self.manifest)


def _parameter_name(key: str) -> str:
    return key if key.startswith("lm_head") else f"model.{key}"
