"""A bundle as the source of a model: its weights are what the quantized ones stand for."""

import shutil
from pathlib import Path

from torch import Tensor

from toolkit.bundle.bundle import Bundle
from toolkit.bundle.layout import Part, base_parts
from toolkit.bundle.manifest import GENERATION_CONFIG
from toolkit.lora import TEXT_MODULE
from toolkit.quantization.packing import PANEL, QuantizedTensor
from toolkit.sources.base import Source

_NOT_TOKENIZER = (".ptd", ".pte")
_OWN_JSON = ("adapter_config.json", "config.json", GENERATION_CONFIG)


class BundleSource(Source):
    """Dequantized weights and the tokenizer of a bundle.

    Raises:
        ToolkitError: There is no bundle, or it is damaged.
    """

    def __init__(self, directory: Path) -> None:
        self.bundle = Bundle.open(directory)
        model = self.bundle.manifest["model"]
        self.name = str(model["name"])
        self.origin = str(directory)
        self.export_words = tuple(map(str, model.get("export", ())))
        self.revision = str(model.get("revision", ""))
        self.license = str(model.get("license", ""))
        self.is_random = bool(model.get("random_weights", False))
        self.config = self.bundle.config
        self.text_module = str(model.get("text_module", TEXT_MODULE))
        self.left_out = {str(part): int(n) for part, n in model.get("left_out", {}).items()}
        self._parts: dict[str, Part] = {part.source: part for part in base_parts(self.config)}

    def names(self) -> list[str]:
        return list(self._parts)

    def shape(self, name: str) -> tuple[int, ...] | None:
        part = self._parts.get(name)
        return None if part is None else part.shape

    def rows(self, name: str, begin: int, end: int) -> Tensor:
        self.require(name)
        part = self._parts[name]
        if part.kind == "vector":
            # Rounded as the parameter was when the offset was added: exact in all that is near it.
            return self.bundle.base.tensor(part.key)[begin:end] - part.offset
        panels = slice(begin // PANEL, -(-end // PANEL))
        whole = self.bundle.quantized(part.key)
        offset = None if whole.offset is None else whole.offset[panels]
        rows = QuantizedTensor(whole.codes[panels], whole.scale[panels], offset).dequantize()
        first = panels.start * PANEL
        return rows[begin - first : end - first].contiguous()

    def save_tokenizer(self, directory: Path) -> bool:
        if self.bundle.manifest["tokenizer"] is None:
            return False
        for name in self.bundle.manifest["files"]:
            if not name.endswith(_NOT_TOKENIZER) and name not in _OWN_JSON:
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.bundle.path / name, directory / name)
        return True

    def generation_config(self) -> Path | None:
        path = self.bundle.path / GENERATION_CONFIG
        return path if path.is_file() else None
