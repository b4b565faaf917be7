"""The model that an adapter belongs to, found by what its folder says or by the user's word."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.bundle.bundle import Bundle
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
        chosen: Whether the user named a model, which may be another than the adapter names.
    """

    source: Source
    original: bool
    chosen: bool = False

    def describe(self) -> str:
        """Return in words which weights these are."""
        origin = self.source.origin
        if not self.original:
            return f"weights dequantized from the bundle {origin}"
        if self.source.quantized_as:
            return f"the weights of {origin}, quantized ({', '.join(self.source.quantized_as)})"
        return f"the original weights of {origin}"


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
            return Base(open_source(base), True, chosen=True)
        source = BundleSource(Path(base).expanduser())
        check_bundle(source.bundle, adapter)
        return Base(source, False)
    try:
        return Base(_named(adapter), True)
    except ToolkitError as error:
        wanted = read_run_record(adapter).bundle.base_sha256
        found, others = _near(adapter, wanted)
        if found is not None:
            return Base(found, False)
        cause = f"{error.cause}; no bundle of the run is near{others}"
        raise ToolkitError(cause, _REMEDY) from error


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


def find_run_bundle(run: Path) -> Path:
    """Return the bundle that a run was trained with: near it, or on this machine as a device.

    Raises:
        ToolkitError: It is not to be found.
    """
    wanted = read_run_record(run).bundle.base_sha256
    remedy = "Name it with --bundle: the folder that `toolkit export` wrote"
    if not wanted:
        raise ToolkitError(f"{run} does not say which bundle it is for", remedy)
    found, others = _near(run, wanted)
    if found is None:
        cause = f"the bundle that {run} was trained with is not near it{others}"
        raise ToolkitError(cause, remedy)
    return found.bundle.path


def _near(adapter: Path, wanted: str | None) -> tuple[BundleSource | None, str]:
    """Return the bundle of these weights, or None and, in brackets, why others are not it."""
    others = []
    for folder in _candidates(adapter):
        try:
            source = BundleSource(folder)
            if source.bundle.base.sha256().hex() == wanted:
                return source, ""
        except ToolkitError as error:  # of another version, or damaged
            others.append(error.cause)
        else:
            others.append(f"{folder} has other weights")
    return None, f" ({'; '.join(others)})" if others else ""


def _candidates(adapter: Path) -> Iterator[Path]:
    """Yield bundles that may be the run's, nearest first."""
    used = read_run_record(adapter).settings.get("bundle")
    places = [adapter.absolute().parent / "bundle", Path("bundle")]
    places += [Path(used)] if isinstance(used, str) and used else []
    yield from (place for place in places if _is_bundle(place))


def _is_bundle(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def check_bundle(bundle: Bundle, adapter: Path) -> None:
    """Check that a bundle has the weights that an adapter was trained with, if its folder says so.

    Raises:
        ToolkitError: It has others.
    """
    wanted = read_run_record(adapter).bundle.base_sha256
    if wanted and bundle.base.sha256().hex() != wanted:
        raise ToolkitError(
            f"the bundle {bundle.path} has other weights than the one that {adapter} was "
            "trained with",
            "Name the bundle that the run used",
        )
