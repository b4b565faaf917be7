"""The adapter of a zeroth-order run, made again from its list of estimates."""

import shutil
import tempfile
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.device.kept import ADAPTER
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from toolkit.bundle.bundle import Bundle
    from toolkit.bundle.flat_tensor import FlatTensorReader
    from toolkit.replaying.estimates import Estimates
    from toolkit.replaying.replay import Progress


@dataclass(frozen=True)
class Replayed:
    """An adapter that was made again.

    Attributes:
        path: Its folder, as peft reads it.
        steps: Of the run that it is of.
        same_as_run: Whether its tensors have the bits of the adapter in the run's folder; None
            where that is of another step or not there.
    """

    path: Path
    steps: int
    same_as_run: bool | None


def replay(
    run: str | PathLike[str],
    output: str | PathLike[str],
    *,
    bundle: "Bundle | str | PathLike[str]",
    adapter: str | PathLike[str] | None = None,
    steps: int | None = None,
    progress: "Progress" = lambda done, total: None,
) -> Replayed:
    """Make the adapter of a run of mezo again, bit by bit, from what its steps found.

    Args:
        run: A folder that `pull` wrote; its estimates.jsonl is all that is needed.
        output: A folder that does not exist yet.
        bundle: That was trained.
        adapter: What the run started from instead of the bundle's own adapter: a folder that peft
            saved, or an adapter .ptd.
        steps: Of the run, from the first on; all if None. Of a run that took another adapter
            (`resume(take_adapter=...)`) only those after it can be made again, from that adapter.
        progress: Called with tensors done and all of them.

    Raises:
        ToolkitError: There is no list, it is damaged, or bundle or adapter are not the run's.

    Example:
        >>> replayed = toolkit.replay("runs/run1", "again", bundle="bundle")  # doctest: +SKIP
    """
    from toolkit.bundle.bundle import Bundle
    from toolkit.replaying.estimates import read_estimates
    from toolkit.replaying.replay import replay as make_again

    estimates, folder = read_estimates(Path(run)), Path(output)
    wanted = len(estimates.steps) if steps is None else steps - estimates.before
    if not 0 <= wanted <= len(estimates.steps):
        raise _no_such_step(run, estimates, steps)
    if folder.exists():
        raise ToolkitError(f"{folder} exists", "Choose another folder, or remove it")
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle))
    with tempfile.TemporaryDirectory() as scratch:
        reader = _start(bundle, adapter, Path(scratch))
        if reader.sha256().hex() != estimates.adapter_sha256:
            raise ToolkitError(
                f"{reader.path} is not the adapter that {run} started from"
                + (f", or took after step {estimates.before}" if estimates.before else ""),
                "Name the bundle of the run, and with --adapter what it was started with or took",
            )
        start = {name: reader.tensor(name).numpy() for name in reader}
    result = make_again(estimates, start, bundle.config.num_hidden_layers, wanted, progress)
    done = estimates.before + wanted
    return Replayed(_write(folder, bundle, result), done, _same(Path(run), result, done))


def _no_such_step(
    run: str | PathLike[str], estimates: "Estimates", steps: int | None
) -> ToolkitError:
    last = estimates.before + len(estimates.steps)
    if steps is not None and 0 <= steps < estimates.before:
        return ToolkitError(
            f"{run} took another adapter after step {estimates.before}, and step {steps} is before",
            f"Ask for {estimates.before} to {last}",
        )
    return ToolkitError(f"{run} has {last} steps, not {steps}")


def _start(
    bundle: "Bundle", adapter: str | PathLike[str] | None, scratch: Path
) -> "FlatTensorReader":
    from toolkit.bundle.adapter import write_peft_adapter
    from toolkit.bundle.flat_tensor import FlatTensorReader
    from toolkit.lora import LoraSettings

    if adapter is None:
        return bundle.adapter
    if Path(adapter).is_file():
        return FlatTensorReader(Path(adapter))
    lora = LoraSettings.from_json(bundle.manifest["lora"])
    write_peft_adapter(Path(adapter), bundle.adapter.specs(), lora, scratch / "adapter.ptd")
    return FlatTensorReader(scratch / "adapter.ptd")


def _write(folder: Path, bundle: "Bundle", tensors: dict[str, Any]) -> Path:
    from safetensors.numpy import save_file

    from toolkit.bundle.peft_files import PEFT_PREFIX

    folder.mkdir(parents=True)
    named = {PEFT_PREFIX + name: values for name, values in tensors.items()}
    save_file(named, folder / ADAPTER, metadata={"format": "pt"})
    shutil.copyfile(bundle.path / "adapter_config.json", folder / "adapter_config.json")
    return folder


def _same(run: Path, tensors: dict[str, Any], steps: int) -> bool | None:
    """Whether the run's own adapter, if it is of this step, has the same bits."""
    from toolkit.bundle.peft_files import PEFT_PREFIX, open_peft_weights
    from toolkit.trace.analysis import read_analysis

    if not (run / ADAPTER).is_file() or not (run / "trace.jsonl").is_file():
        return None
    analysis = read_analysis(run, None)
    done, kept = analysis.trace.steps["step"].tolist(), analysis.trace.run.settings.get("keep")
    if analysis.status not in ("completed", "stopped") or kept == "best" or done[-1:] != [steps]:
        return None
    own = open_peft_weights(run)
    return all(
        own.rows(PEFT_PREFIX + name, 0, len(values)).numpy().tobytes() == values.tobytes()
        for name, values in tensors.items()
    )
