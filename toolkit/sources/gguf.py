"""A GGUF file of llama.cpp: 4- and 8-bit blocks are taken over unchanged, the rest is expanded.

The configuration is made of the file's metadata, the tokenizer comes from the conversion in
`transformers`, names from the gguf package.
"""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from toolkit.errors import ToolkitError
from toolkit.families import Family, family_of_gguf
from toolkit.sources.base import Groups, Source
from toolkit.sources.gguf_blocks import is_representable, read_groups
from toolkit.sources.gguf_metadata import Metadata, read_fields
from toolkit.sources.gguf_names import row_order, stored_names
from toolkit.sources.gguf_rope import LLAMA3, LONGROPE, restore_llama3_scaling, rope_parameters
from toolkit.sources.tokenizer import open_tokenizer

_PLAIN = {"F32", "F16", "BF16", "F64"}


class GgufSource(Source):
    """Weights and tokenizer of a GGUF file.

    Raises:
        ToolkitError: The file is damaged or of a family that is not supported.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        self.origin = str(path.resolve())
        self.export_words = (self.origin,)
        try:
            reader = gguf.GGUFReader(path)
        except (ValueError, KeyError, IndexError, OSError, OverflowError) as error:
            raise ToolkitError(
                f"{path} is not a complete GGUF file: {error}", "Download it again"
            ) from error
        family = family_of_gguf(_field(reader, "general.architecture"))
        self.license = _field(reader, "general.license") or ""
        self._size = path.stat().st_size
        # Copies: the reader maps the file, and mapped pages would count as our memory.
        self._tensors = {
            tensor.name: (
                tensor.tensor_type.name,
                tuple(int(size) for size in reversed(tensor.shape.tolist())),
                int(tensor.data_offset),
                int(tensor.n_bytes),
            )
            for tensor in reader.tensors
        }
        kinds = {kind for kind, _, _, _ in self._tensors.values()}
        self.quantized_as = tuple(sorted(kinds - _PLAIN))
        for name, (_, _, offset, nbytes) in self._tensors.items():
            if offset + nbytes > self._size:
                raise ToolkitError(f"{path} ends before tensor {name}", "Download it again")
        metadata = Metadata(reader, family.gguf_architecture)
        del reader
        self.config = self._read_config(metadata, family)
        self._norm_offset = family.norm_offset
        self._stored = stored_names(self.config)

    @property
    def base_model(self) -> str:
        """The file's directory: `transformers` loads it from there, given `gguf_file=NAME`."""
        return str(self.path.resolve().parent)

    def names(self) -> list[str]:
        known = {stored: name for name, stored in self._stored.items()}
        return [known.get(stored, stored) for stored in self._tensors]

    def shape(self, name: str) -> tuple[int, ...] | None:
        entry = self._tensors.get(self._stored.get(name, ""))
        return None if entry is None else entry[1]

    def rows(self, name: str, begin: int, end: int) -> Tensor:
        kind, shape, _, _ = self._entry(name)
        raw = self._raw(name, begin, end)
        values = gguf.quants.dequantize(raw.numpy(), gguf.GGMLQuantizationType[kind])
        result = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        # llama.cpp's files have what the norms multiply with. The difference is exact where the sum
        # was rounded from it, and adding the offset again gives the file's value.
        offset = self._norm_offset if name.endswith("norm.weight") else 0.0
        return (result - offset if offset else result).reshape(end - begin, *shape[1:])

    def can_take_over(self, name: str, scheme: str) -> bool:
        return is_representable(self._entry(name)[0], scheme)

    def take_over(self, name: str, begin: int, end: int, scheme: str) -> Groups:
        return read_groups(self._raw(name, begin, end), self._entry(name)[0], scheme)

    def save_tokenizer(self, directory: Path) -> bool:
        try:
            tokenizer = open_tokenizer(self.path)
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise ToolkitError(f"The tokenizer of {self.path} cannot be read: {error}") from error
        tokenizer.save_pretrained(directory)
        return True

    def _read_config(self, metadata: Metadata, family: Family) -> PretrainedConfig:
        fields = read_fields(metadata, family)
        factors = {
            name: self._read_stored(name)
            for name in (LLAMA3, *LONGROPE.values())
            if name in self._tensors
        }
        llama3 = factors.get(LLAMA3)
        if llama3 is not None and torch.equal(llama3, torch.ones_like(llama3)):
            del factors[LLAMA3]
        fields["rope_parameters"] = rope_parameters(metadata, fields, family.gguf, factors)
        fields |= family.gguf.complete(metadata.all, fields)
        fields["tie_word_embeddings"] = "output.weight" not in self._tensors
        del fields["rope_theta"]  # it is one of the rotary parameters
        plain = fields["head_dim"] == fields["hidden_size"] // fields["num_attention_heads"]
        if plain and "head_dim" not in CONFIG_MAPPING[family.model_type].__dataclass_fields__:
            del fields["head_dim"]
        try:
            config: PretrainedConfig = AutoConfig.for_model(
                family.model_type, **metadata.special, **fields
            )
        except (ValueError, KeyError, TypeError, StrictDataclassError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ToolkitError(f"The settings in {self.path} cannot be used: {reason}") from error
        if LLAMA3 in factors:
            restore_llama3_scaling(config, factors[LLAMA3])
        return config

    def _entry(self, name: str) -> tuple[str, tuple[int, ...], int, int]:
        self.require(name)
        return self._tensors[self._stored[name]]

    def _read_stored(self, stored_name: str) -> Tensor:
        _, _, offset, nbytes = self._tensors[stored_name]
        return torch.frombuffer(bytearray(self._bytes(offset, nbytes)), dtype=torch.float32)

    def _raw(self, name: str, begin: int, end: int) -> Tensor:
        """Return the bytes of rows [begin, end) as `transformers` orders them: uint8 [n, bytes]."""
        _, shape, offset, nbytes = self._entry(name)
        row = nbytes // shape[0]
        order = row_order(self.config, name, shape[0])
        if order is None:
            data = self._bytes(offset + begin * row, (end - begin) * row)
            return torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(end - begin, row)
        whole = torch.frombuffer(bytearray(self._bytes(offset, nbytes)), dtype=torch.uint8)
        return whole.reshape(shape[0], row)[order[begin:end]]

    def _bytes(self, offset: int, count: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            data = file.read(count)
        if len(data) != count:
            raise ToolkitError(f"{self.path} is shorter than before")
        return data


def _field(reader: gguf.GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    return None if field is None else field.contents()
