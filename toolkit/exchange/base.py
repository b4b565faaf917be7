"""The model that an adapter belongs to, found by what its folder says or by the user's word."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.bundle.manifest import NAME as MANIFEST
from toolkit.bundle.peft_config import peft_base_model, peft_revision
from toolkit.errors import ToolkitError
from toolkit.exchange.run_record import read_run_record
from toolkit.planning.model import load_config
from toolkit.sources import Source, find_gguf, open_source
from toolkit.sources.bundle import BundleSource
from toolkit.sources.hub import download_config, is_hub_id

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_REMEDY = "Name it with --base: a model, a .gguf file, or the bundle that the run used"


@dataclass(frozen=True)
class Base:
    """An adapter's model.

    Attributes:
        source: Its weights.
        original: Whether they are the model's own, not those that a bundle's quantized ones stand
            for.
    """

    source: Source
    original: bool

    def describe(self) -> str:
        """Return in words which weights these are."""
        origin = self.source.origin
        return (
            f"the original weights of {origin}"
            if self.original
            else f"weights dequantized from the bundle {origin}"
        )


def find_base(adapter: Path, base: str | None = None) -> Base:
    """Return the model of an adapter.

    Without `base` it is the one that the adapter names where that is at hand (a hub id is
    downloaded), else the bundle of the run: beside the run's folder, in this one, or on this
    machine as a device, told by its hash.

    Args:
        adapter: Folder of a PEFT adapter, as `toolkit pull` brings it.
        base: A model as `toolkit export` takes it, or a bundle.

    Raises:
        ToolkitError: It is not to be found, or the bundle has other weights than the run's.
    """
    if base is not None:
        if not _is_bundle(Path(base).expanduser()):
            return Base(open_source(base), True)
        source = BundleSource(Path(base).expanduser())
        _check_hash(source, adapter)
        return Base(source, False)
    try:
        return Base(_named(adapter), True)
    except ToolkitError as error:
        for folder in _candidates(adapter):
            source = BundleSource(folder)
            if _hash(source) == read_run_record(adapter).bundle.base_sha256:
                return Base(source, False)
        raise ToolkitError(f"{error.cause}; no bundle of the run is near", _REMEDY) from error


def _named(adapter: Path) -> Source:
    """Open what adapter_config.json names as its base model."""
    name = peft_base_model(adapter)
    if not name:
        raise ToolkitError(f"{adapter} does not name its base model")
    folder = Path(name).expanduser()
    if folder.is_dir() and not (folder / "config.json").exists():
        return open_source(str(find_gguf(folder, read_run_record(adapter).model)))
    if folder.exists() and not _is_bundle(folder):
        return open_source(name)
    if is_hub_id(name):
        return open_source(name, peft_revision(adapter))
    raise ToolkitError(f"the base model {name} of {adapter} is not there")


def find_config(adapter: Path, base: str | None = None) -> "tuple[PretrainedConfig, str]":
    """Return the configuration and the name of an adapter's model, found as `find_base` does.

    Of a model on the hub nothing else is downloaded.

    Raises:
        ToolkitError: As `find_base`.
    """
    wanted = base or peft_base_model(adapter)
    if not is_hub_id(wanted) or Path(wanted).exists():
        source = find_base(adapter, base).source
        return source.config, source.name
    revision = "" if base else peft_revision(adapter)
    try:
        return load_config(download_config(wanted, revision).parent), wanted
    except ToolkitError:
        if base is not None:
            raise
        source = find_base(adapter).source
        return source.config, source.name


def _candidates(adapter: Path) -> Iterator[Path]:
    """Yield bundles that may be the run's, nearest first."""
    used = read_run_record(adapter).settings.get("bundle")
    places = [adapter.absolute().parent / "bundle", Path("bundle")]
    places += [Path(used)] if isinstance(used, str) and used else []
    yield from (place for place in places if _is_bundle(place))


def _is_bundle(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def _hash(source: BundleSource) -> str:
    return source.bundle.base.sha256().hex()


def _check_hash(source: BundleSource, adapter: Path) -> None:
    wanted = read_run_record(adapter).bundle.base_sha256
    if wanted and _hash(source) != wanted:
        raise ToolkitError(
            f"the bundle {source.origin} has other weights than the one that {adapter} was "
            "trained with",
            "Name the bundle that the run used",
        )
