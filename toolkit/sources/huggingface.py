"""A model directory as `transformers` saves it: config.json and safetensors, sharded or not.

Of a model that also sees or hears, the text part is taken.
"""

import json
import math
import re
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from toolkit.errors import ToolkitError
from toolkit.families import check_family
from toolkit.sources.base import Source
from toolkit.sources.multimodal import text_config, text_part
from toolkit.sources.safetensors_file import SafetensorsFile
from toolkit.sources.tokenizer import open_tokenizer

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")


class HuggingFaceSource(Source):
    """Weights and tokenizer of a directory.

    Args:
        directory: Holds config.json and safetensors files.
        name: Hub id, if it was downloaded; the directory's name otherwise.
        revision: Commit of the hub repository.
    """

    def __init__(self, directory: Path, name: str = "", revision: str = "") -> None:
        self.directory = directory
        self.name = name or directory.resolve().name
        self.origin = name or str(directory.resolve())
        self.export_words = (self.origin,)
        self.revision = revision
        self.license = _license(directory / "README.md")
        whole = _config(directory)
        self.config = text_config(whole)
        self._files = _open_files(directory)
        self._stored = {name: name for name in self._files}
        if self.config is not whole:
            part = text_part(whole, self._files)
            self._stored, self.text_module = part.names, part.module
            self.left_out = {
                name: sum(math.prod(self._files[one].shape(one)) for one in members)
                for name, members in part.left_out.items()
            }

    def names(self) -> list[str]:
        return list(self._stored)

    def shape(self, name: str) -> tuple[int, ...] | None:
        stored = self._stored.get(name)
        return None if stored is None else self._files[stored].shape(stored)

    def rows(self, name: str, begin: int, end: int) -> Tensor:
        self.require(name)
        stored = self._stored[name]
        return self._files[stored].rows(stored, begin, end)

    def save_tokenizer(self, directory: Path) -> bool:
        if not any((self.directory / file).exists() for file in _TOKENIZER_FILES):
            return False
        try:
            open_tokenizer(self.directory).save_pretrained(directory)
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise ToolkitError(
                f"The tokenizer of {self.origin} cannot be loaded: {error}"
            ) from error
        return True

    def generation_config(self) -> Path | None:
        path = self.directory / "generation_config.json"
        return path if path.is_file() else None


def _config(directory: Path) -> PretrainedConfig:
    if not (directory / "config.json").exists():
        raise ToolkitError(
            f"{directory} has no config.json", "Give a directory that transformers can load"
        )
    try:
        raw = json.loads((directory / "config.json").read_text())
        text = raw.get("text_config") or {}
        model_type = text.get("model_type") or raw.get("model_type")
    except (ValueError, AttributeError) as error:
        raise ToolkitError(f"{directory / 'config.json'} is not valid JSON: {error}") from error
    if not text or "model_type" in text:
        check_family(model_type)  # before `transformers` complains about a type it does not know
    if "quantization_config" in raw:
        method = raw["quantization_config"].get("quant_method", "unknown")
        raise ToolkitError(
            f"The weights of {directory} are already quantized ({method})",
            "Give the original model, or a GGUF file",
        )
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(directory)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        null = [name for name in ("head_dim",) if name in raw and raw[name] is None]
        remedy = f"{null[0]} is null there: leave it out" if null else ""
        raise ToolkitError(
            f"{directory / 'config.json'} cannot be used: {reason}", remedy
        ) from error
    check_family(text_config(config).model_type)
    return config


def _open_files(directory: Path) -> dict[str, SafetensorsFile]:
    """Return the file of every tensor."""
    if (directory / _INDEX).exists():
        return _open_shards(directory)
    if (directory / _SINGLE).exists():
        file = SafetensorsFile(directory / _SINGLE)
        return dict.fromkeys(file.names(), file)
    found = sorted(directory.glob("*.bin")) + sorted(directory.glob("*.pth"))
    raise ToolkitError(
        f"{directory} has no {_SINGLE} and no {_INDEX}",
        "Save the model with safe_serialization=True"
        if found
        else "Give the directory that holds the weights",
    )


def _open_shards(directory: Path) -> dict[str, SafetensorsFile]:
    try:
        weight_map = json.loads((directory / _INDEX).read_text())["weight_map"]
        shards = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolkitError(f"{directory / _INDEX} is not a valid index") from error
    files = {}
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise ToolkitError(f"{directory / _INDEX} names a file outside the directory: {shard}")
        if not (directory / shard).exists():
            raise ToolkitError(f"{directory / shard} is missing", "Download the model again")
        files[shard] = SafetensorsFile(directory / shard)
    for name, shard in weight_map.items():
        if name not in files[shard].names():
            raise ToolkitError(f"{shard} lacks {name}, which {_INDEX} places there")
    return {name: files[shard] for name, shard in weight_map.items()}


def _license(readme: Path) -> str:
    """Return the licence that a model card's front matter states, or ""."""
    if not readme.exists():
        return ""
    front = readme.read_text(errors="replace").split("\n---", 1)[0]
    lines = re.finditer(r"^(license|license_name):[ \t]*(\S.*)$", front, re.MULTILINE)
    found = {line[1]: line[2].strip().strip("'\"") for line in lines}
    return found.get("license_name") or found.get("license", "")
