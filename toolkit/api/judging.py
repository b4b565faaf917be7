"""What a device computes, judged: gradients against PyTorch, loss with and without an adapter."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from toolkit.api.devices import Bars, Device, no_bars, open_device
from toolkit.bundle.adapter import write_peft_adapter
from toolkit.bundle.bundle import Bundle
from toolkit.choices import APPROXIMATE_LOWERINGS, ARITHMETICS
from toolkit.data.dataset import count_rows, first_rows, read_rows, write_rows
from toolkit.data.samples import Rows
from toolkit.device.commands import send_bundle, send_runtime
from toolkit.device.computing import (
    Target,
    device_evaluation,
    device_gradients,
    sent_inputs,
    write_zero_adapter,
)
from toolkit.device.contents import check_data
from toolkit.errors import ToolkitError
from toolkit.exchange.base import check_bundle
from toolkit.lora import LoraSettings
from toolkit.oracle.approximate import approximation
from toolkit.oracle.gradients import step_gradients
from toolkit.oracle.model import build_exact_model, build_model
from toolkit.oracle.thresholds import gates_of, near_thresholds
from toolkit.oracle.verification import (
    TOLERANCE,
    TOLERANCES,
    Verification,
    judge,
    judge_rounding,
    verification_rows,
    write_perturbed_adapter,
)

Counting = Callable[[str, int], AbstractContextManager[Callable[[int, int], None]]]
"""From what is counted, and how much of it, to a context that yields what counts."""


@contextmanager
def count_nothing(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Show no progress."""
    yield lambda done, total: None


@dataclass(frozen=True)
class Measured:
    """Mean loss over labelled tokens (nats), its exponential, and how many there were."""

    loss: float
    perplexity: float
    tokens: int
    samples: int


@dataclass(frozen=True)
class EvaluationReport:
    """Loss on one part of a data set.

    Attributes:
        data: The data set's folder.
        split: "validation" or "train".
        adapter: The adapter's folder, if there is one.
        without_adapter, with_adapter: What was measured.
    """

    data: str
    split: str
    adapter: str | None
    without_adapter: Measured
    with_adapter: Measured | None = None

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; without an adapter there is nothing about one."""
        found = asdict(self)
        return found if self.with_adapter else {k: found[k] for k in found if k != "with_adapter"}


def evaluate(
    bundle: str | PathLike[str],
    data: str | PathLike[str],
    *,
    adapter: str | PathLike[str] | None = None,
    device: str | Device = "local",
    split: str | None = None,
    max_samples: int = 0,
    threads: int = 0,
    arithmetic: str = ARITHMETICS[0],
    bars: Bars = no_bars,
    counting: Counting = count_nothing,
) -> EvaluationReport:
    """Measure loss and perplexity on a device, with and without an adapter.

    Args:
        bundle: What `export` wrote; it is sent if the device lacks it.
        data: What `prepare_data` wrote.
        adapter: Folder of a PEFT adapter, as `pull` brings it.
        split: "validation" or "train"; None: validation, if the data has it.
        max_samples: Only so many samples from the start; 0 is all.
        threads: On the device; 0 leaves it to it.
        arithmetic: Of products with quantized weights: float32 or fixed16.
        bars, counting: Show progress.

    Raises:
        ToolkitError: Something is damaged or does not belong together, or the trainer failed.

    Example:
        >>> report = toolkit.evaluate("bundle", "data", adapter="runs/run1", max_samples=2)
        >>> report.with_adapter.loss < report.without_adapter.loss
        True
    """
    opened, data = Bundle.open(fspath(bundle)), Path(data)
    part, file = _data_file(data, split)
    check_data(data, file.name, opened.path)
    total = count_rows(file)
    total = min(total, max_samples) if max_samples else total
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        adapters = _adapters(opened, adapter, Path(folder))
        with open_target(device, opened.path, threads, arithmetic, bars) as target:
            for name, path in adapters.items():
                what = name.replace("_", " ")
                with ExitStack() as sent:
                    with bars(what) as sending:
                        remote = sent.enter_context(sent_inputs(target, file, path, sending))
                    with counting(what, total) as count:
                        result = device_evaluation(target, remote, max_samples, count)
                found[name] = Measured(**result)
    where = None if adapter is None else fspath(adapter)
    return EvaluationReport(str(data), part, where, **found)


def _data_file(data: Path, split: str | None) -> tuple[str, Path]:
    wanted = [split] if split else ["validation", "train"]
    for part in wanted:
        if (data / f"{part}.ptd").is_file():
            return part, data / f"{part}.ptd"
    raise ToolkitError(
        f"{data} has no {wanted[0]}.ptd", "Make data with `toolkit data FILE --tokenizer bundle`"
    )


def _adapters(bundle: Bundle, adapter: str | PathLike[str] | None, folder: Path) -> dict[str, Path]:
    adapters = {"without_adapter": folder / "zero.ptd"}
    write_zero_adapter(bundle, adapters["without_adapter"])
    if adapter is not None:
        adapters["with_adapter"] = folder / "adapter.ptd"
        check_bundle(bundle, Path(adapter))
        specs, lora = bundle.adapter.specs(), LoraSettings.from_json(bundle.manifest["lora"])
        write_peft_adapter(Path(adapter), specs, lora, adapters["with_adapter"])
    return adapters


@contextmanager
def open_target(
    device: str | Device, bundle: Path, threads: int, arithmetic: str, bars: Bars
) -> Iterator[Target]:
    """Yield a device that has the runtime and the bundle."""
    if arithmetic not in ARITHMETICS:
        raise ToolkitError(
            f"no arithmetic is named {arithmetic!r}", f"Use {' or '.join(ARITHMETICS)}"
        )
    context: AbstractContextManager[Device]
    context = open_device(device) if isinstance(device, str) else nullcontext(device)
    with context as opened:
        with bars("runtime") as progress:
            runtime = send_runtime(opened.connection, progress)
        with bars("bundle") as progress:
            remote = send_bundle(opened.connection, bundle, progress)
        yield Target(opened.connection, runtime, remote, threads, arithmetic)


def verify(
    bundle: str | PathLike[str],
    *,
    device: str | Device = "local",
    data: str | PathLike[str] | None = None,
    samples: int = 4,
    seq_len: int | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    threads: int = 0,
    arithmetic: str = ARITHMETICS[0],
    bars: Bars = no_bars,
    say: Callable[[str], None] = lambda line: None,
) -> Verification:
    """Check a device's gradients of one step against PyTorch's, tensor by tensor.

    Those of a bundle with approximate gradients are checked against PyTorch's by the same rule; how
    far these are from the model's own is told beside it.

    Args:
        bundle: What `export` wrote; it is sent if the device lacks it.
        data: Take the first samples of this data set instead of random tokens.
        samples: Samples of the step.
        seq_len: Of random tokens; None: the bundle's shortest.
        seed: Of random tokens and of what is added to the adapter, whose B would else be 0.
        tolerance: Largest relative error that passes; None: what the arithmetic is held to.
        threads: On the device; 0 leaves it to it.
        arithmetic: Of the device's products with quantized weights: float32 or fixed16.
        bars: Shows the progress of transfers.
        say: Called with what is being done.

    Raises:
        ToolkitError: Something is damaged or does not belong together, or the trainer failed.

    Example:
        >>> toolkit.verify("bundle", samples=1).passed
        True
    """
    opened = Bundle.open(fspath(bundle))
    rows = _rows(opened, None if data is None else Path(data), samples, seq_len, seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_target(device, opened.path, threads, arithmetic, bars) as target,
    ):
        files, adapter = Path(folder) / "data.ptd", Path(folder) / "adapter.ptd"
        write_rows(files, rows, opened.manifest["tokenizer"])
        write_perturbed_adapter(opened, adapter, seed)
        indices = list(range(len(rows.tokens)))
        with ExitStack() as sent:
            with bars("verify") as sending:
                remote = sent.enter_context(sent_inputs(target, files, adapter, sending))
            say(f"gradients on {target.device.spec}")
            actual = device_gradients(target, remote, indices)
        say("gradients in PyTorch")
        expected = step_gradients(build_model(opened, adapter), rows, indices)
        limit = TOLERANCES[arithmetic] if tolerance is None else tolerance
        verdict = judge(actual, expected, limit)
        if opened.manifest["lowering"] in APPROXIMATE_LOWERINGS:
            say("gradients in PyTorch without the approximation")
            true = step_gradients(build_model(opened, adapter, true_gradients=True), rows, indices)
            found = approximation(expected.tensors, true.tensors)
            verdict = replace(verdict, approximation=found)
        if verdict.passed:
            return verdict
        say("gradients above the tolerance: the same in float64")
        near = gates = None
        if verdict.approximation is not None:
            gates = gates_of(build_model(opened, adapter), rows, indices)
        model = build_exact_model(opened, adapter)
        exact = step_gradients(model, rows, indices)
        if gates is not None:
            width = TOLERANCES[arithmetic] / TOLERANCE
            near = near_thresholds(model, gates, rows, indices, exact.tensors, width)
        return replace(judge_rounding(verdict, actual, expected, exact), near=near)


def _rows(bundle: Bundle, data: Path | None, samples: int, seq_len: int | None, seed: int) -> Rows:
    lengths = bundle.manifest["seq_lens"]
    if data is None:
        length = seq_len or min(lengths)
        rows = verification_rows(samples, length, bundle.manifest["shape"]["vocab_size"], seed)
    else:
        if seq_len is not None:
            raise ToolkitError("a length is for random tokens; data has its own", "Leave it away")
        check_data(data, "train.ptd", bundle.path)
        rows = first_rows(read_rows(data / "train.ptd"), samples)
        length = rows.tokens.shape[1]
    if length not in lengths:
        raise ToolkitError(
            f"the bundle has no programs for {length} tokens "
            f"(it has {', '.join(map(str, lengths))})",
            "Use one of these, or export with another --seq-len",
        )
    return rows
