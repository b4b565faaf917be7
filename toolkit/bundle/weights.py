"""Quantized weights from a source, a run of rows at a time."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from toolkit.bundle.layout import Part, base_parts
from toolkit.errors import ToolkitError
from toolkit.quantization.layout import weight_layout
from toolkit.quantization.packing import PANEL, QuantizedTensor
from toolkit.quantization.report import ErrorMeter, TensorQuality
from toolkit.quantization.schemes import quantize
from toolkit.sources import Source

_CHUNK = 1 << 22
"""Elements read and quantized at a time: 16 MiB of float32."""
_DERIVED = (
    "rotary_emb.inv_freq",
    "rope_freqs.weight",
    "rope_factors_short.weight",
    "rope_factors_long.weight",
)
_Quantized = tuple[list[Tensor], TensorQuality | None]
DEFAULT_SCHEMES = {"linear": "int4", "embedding": "int8", "head": "int8"}


def choose_schemes(
    source: Source, parts: list[Part], linear: str, embedding: str
) -> dict[str, str]:
    """Return the scheme of every kind of weight.

    Args:
        source: Where the weights come from.
        parts: All weights.
        linear: Scheme of the linear layers or "auto".
        embedding: Scheme of embedding and head or "auto".

    "auto" takes the scheme that keeps the most of the source's tensors unchanged, the smaller one
    on a tie, and `DEFAULT_SCHEMES` if it keeps none. All layers share one graph, so they share one
    scheme; a tensor stored otherwise is quantized again.
    """
    kinds = {"linear": linear, "embedding": embedding, "head": embedding}
    schemes = {}
    for kind, wanted in kinds.items():
        members = [part for part in parts if part.kind == kind]
        schemes[kind] = _most_kept(source, members, kind) if wanted == "auto" else wanted
        weight_layout(schemes[kind])
    if not any(part.kind == "head" for part in parts):
        schemes["head"] = schemes["embedding"]
    return schemes


def _most_kept(source: Source, parts: list[Part], kind: str) -> str:
    kept = {
        scheme: sum(source.can_take_over(part.source, scheme) for part in parts)
        for scheme in ("int4-symmetric", "int4", "int8")
    }
    best = max(kept, key=kept.__getitem__)
    return best if kept[best] else DEFAULT_SCHEMES[kind]


def checked_parts(source: Source) -> list[Part]:
    """Return the frozen tensors of a source once it has them, in their shapes, and nothing else.

    Raises:
        ToolkitError: Naming the first tensor that is missing, different or not used.
    """
    parts = base_parts(source.config)
    _check_shapes(source, parts)
    _check_nothing_left(source, parts)
    return parts


def _check_shapes(source: Source, parts: list[Part]) -> None:
    """Check that the source has every weight in the shape that its configuration says."""
    for part in parts:
        shape = source.require(part.source)
        if tuple(shape) != part.shape:
            raise ToolkitError(
                f"{part.source} has shape {list(shape)}, but its configuration says "
                f"{list(part.shape)}",
                "The checkpoint does not belong to its configuration",
            )


def _check_nothing_left(source: Source, parts: list[Part]) -> None:
    """Check that the checkpoint has no tensor that the model of its configuration does not use.

    Rotary frequencies, which old checkpoints hold, follow from the configuration; a head beside a
    tied embedding is the embedding, as it is for `transformers`.
    """
    used = {part.source for part in parts}
    for name in source.names():
        if name not in used and name != "lm_head.weight" and not name.endswith(_DERIVED):
            raise ToolkitError(
                f"{name} is not covered by the family '{source.config.model_type}'",
                "The checkpoint has more than its configuration says: toolkit cannot train it",
            )


def weight_tensors(
    source: Source,
    parts: list[Part],
    schemes: dict[str, str],
    quality: list[TensorQuality],
) -> Iterator[tuple[Part, list[Tensor]]]:
    """Yield every weight with the tensors of `part.specs(schemes)`, in order.

    Weights are quantized in parallel, one per core, a few ahead of the one that is asked for. The
    report of their quality is appended to `quality` in order too.
    """
    cores = _cores()
    threads = torch.get_num_threads()
    # One thread per weight: operators that share their work wait for each other on a busy machine.
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(cores, thread_name_prefix="quantize")
    ahead: deque[tuple[Part, Future[_Quantized]]] = deque()
    waiting = iter(parts)
    try:
        while True:
            for part in itertools.islice(waiting, 2 * cores - len(ahead)):
                ahead.append((part, pool.submit(_tensors_of, source, part, schemes)))
            if not ahead:
                return
            part, future = ahead.popleft()
            tensors, entry = future.result()
            del future
            if entry is not None:
                quality.append(entry)
            yield part, tensors
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _cores() -> int:
    """Return how many cores this process may use; macOS only says how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _tensors_of(source: Source, part: Part, schemes: dict[str, str]) -> _Quantized:
    if part.kind == "vector":
        values = source.read(part.source)
        check_finite(part.source, values)
        return [values + part.offset if part.offset else values], None
    quantized, entry = quantize_part(source, part, schemes[part.kind])
    tensors = [quantized.codes, quantized.scale, quantized.offset]
    return [tensor for tensor in tensors if tensor is not None], entry


def quantize_part(source: Source, part: Part, scheme: str) -> tuple[QuantizedTensor, TensorQuality]:
    """Quantize one weight, or take it over as it is stored."""
    n, k = part.shape
    taken_over = source.can_take_over(part.source, scheme)
    layout = weight_layout(scheme)
    parts = {
        name: torch.empty(shape, dtype=dtype)
        for name, (shape, dtype) in layout.tensors(n, k).items()
    }
    meter = ErrorMeter()
    step = max(1, _CHUNK // (k * PANEL)) * PANEL
    for begin in range(0, n, step):
        end = min(n, begin + step)
        if taken_over:
            codes, scale, offset = _named(part, source.take_over, part.source, begin, end, scheme)
            rows = QuantizedTensor.from_groups(codes, scale, offset, layout.bits)
        else:
            weight = source.rows(part.source, begin, end)
            check_finite(part.source, weight)
            rows = _named(part, quantize, weight, scheme)
            meter.add(weight, rows)
        panels = slice(begin // PANEL, -(-end // PANEL))
        for name, target in parts.items():
            target[panels] = getattr(rows, name)
    result = QuantizedTensor(parts["codes"], parts["scale"], parts.get("offset"))
    entry = TensorQuality(part.key, scheme, taken_over, meter.relative_error, (n, k), result.nbytes)
    return result, entry


def check_finite(name: str, values: Tensor) -> None:
    """Check that a tensor has neither NaN nor infinity.

    Raises:
        ToolkitError: Naming the tensor and the first such value.
    """
    wrong = values.isfinite().logical_not()
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        raise ToolkitError(
            f"{name} has values that are not finite (the first is {values[tuple(place)].item()})",
            "Check the source of the weights",
        )


def _named(part: Part, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that knows no names; its error names the weight."""
    try:
        return function(*arguments)
    except ToolkitError as error:
        raise ToolkitError(f"{part.source}: {error.cause}", error.remedy) from None
