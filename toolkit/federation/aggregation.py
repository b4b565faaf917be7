"""One adapter of many: what a round makes of what its nodes hand back.

All take replies one after the other in the order of the nodes, whatever order they came in, so that
the same replies give the same bits. Weights w_i are whole numbers, a node's labelled tokens.

    fedavg  A = sum w_i A_i / sum w_i, and B alike, in float64: of equal replies the reply, to the
            bit. The mean of the products that the model sees is another thing; how far the two are
            apart is measured (`ProductBias`).
    ffa     The same of B, where every A_i has the bits that the round began with: then the mean of
            the products is the product of the means.
    stack   [w_1 B_1 .. w_N B_N] [A_1 .. A_N] / sum w_i, of rank N R, brought back to rank R by its
            largest singular values: the nearest there is. It needs all replies of a tensor at once.
    scalars The steps of all nodes again, from what each went by (toolkit.federation.scalars).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.bundle.flat_tensor import TensorSpec
from toolkit.bundle.peft_files import open_peft_weights, prefix_of
from toolkit.errors import ToolkitError
from toolkit.federation.orders import NodeReport
from toolkit.sources.safetensors_file import SafetensorsFile

Array = np.ndarray


class AdapterFolder:
    """A PEFT folder's tensors by the names that adapter.ptd has, read one at a time."""

    def __init__(self, folder: Path, specs: list[TensorSpec]) -> None:
        """Open it.

        Raises:
            ToolkitError: It has other tensors than `specs`, or is damaged.
        """
        self.folder = folder
        self.names = [spec.name for spec in specs]
        self._file: SafetensorsFile = open_peft_weights(folder)
        self._prefix = prefix_of(self._file.names(), specs[0].name)
        shapes = {self._prefix + spec.name: tuple(spec.shape) for spec in specs}
        own = {name: self._file.shape(name) for name in self._file.names()}
        if own != shapes:
            name = next(iter(sorted(set(own.items()) ^ set(shapes.items()))))[0]
            raise ToolkitError(
                f"the adapter in {folder} has another {name} than the bundle", "Pull it again"
            )

    def tensor(self, name: str) -> Array:
        """Return a tensor as float32.

        Raises:
            ToolkitError: It holds a number that is not finite.
        """
        path = self._prefix + name
        values: Array = self._file.rows(path, 0, self._file.shape(path)[0]).numpy()
        if not np.isfinite(values).all():
            raise ToolkitError(f"{name} in {self.folder} holds numbers that are not finite")
        return values


@dataclass(frozen=True)
class Reply:
    """What a node handed back: its adapter's folder, its weight in the mean, and what it said."""

    node: str
    folder: Path
    weight: int
    report: NodeReport | None = None


class Aggregator(ABC):
    """Makes one adapter of a round's replies."""

    @abstractmethod
    def add(self, reply: Reply) -> None:
        """Take a reply; what it is not fit for leaves the aggregator as it was.

        Raises:
            ToolkitError: It cannot be part of the round.
        """

    @abstractmethod
    def tensors(self) -> Iterator[tuple[str, Array]]:
        """Yield names and float32 values of the adapter that the replies make; at least one."""

    @abstractmethod
    def bias(self, result: Path) -> float | None:
        """Return how far the product of the adapter in a folder is from the mean of products; None
        where nobody has these.
        """


def check_weight(reply: Reply) -> None:
    """Raise ToolkitError unless a reply counts for something."""
    if reply.weight <= 0:
        raise ToolkitError(
            "it trained on no labelled tokens", "Prepare its data with text to learn"
        )


class OfAdapters(Aggregator):
    """Of replies that are adapters."""

    def __init__(self, specs: list[TensorSpec], start: Path) -> None:
        """Begin a round.

        Args:
            specs: The tensors of the bundle's adapter.
            start: Folder of the adapter that the round begins with.
        """
        self.specs = specs
        self.start = AdapterFolder(start, specs)
        self.weight = 0
        self._bias = ProductBias(specs)

    def add(self, reply: Reply) -> None:
        check_weight(reply)
        adapter = AdapterFolder(reply.folder, self.specs)
        self._add(adapter, reply)
        self._bias.add(adapter.tensor, reply.weight)
        self.weight += reply.weight

    def bias(self, result: Path) -> float | None:
        return self._bias.of(AdapterFolder(result, self.specs).tensor, self.weight)

    @abstractmethod
    def _add(self, adapter: AdapterFolder, reply: Reply) -> None: ...


class FedAvg(OfAdapters):
    """The weighted mean of every tensor; holds one sum, however many replies there are."""

    def __init__(self, specs: list[TensorSpec], start: Path) -> None:
        super().__init__(specs, start)
        # Of minus zero, which leaves the sign of every zero that is added.
        self._sums = {spec.name: np.full(spec.shape, -0.0) for spec in specs}

    def _add(self, adapter: AdapterFolder, reply: Reply) -> None:
        for spec in self.specs:  # all are looked at before any counts
            self._check(spec.name, adapter.tensor(spec.name))
        for name, total in self._sums.items():
            total += adapter.tensor(name).astype(np.float64) * reply.weight

    def _check(self, name: str, values: Array) -> None:
        """Raise if a tensor cannot be part of the mean."""

    def tensors(self) -> Iterator[tuple[str, Array]]:
        for name, total in self._sums.items():
            yield name, (total / self.weight).astype(np.float32)


class Ffa(FedAvg):
    """The same where A is as it was: then the mean of products is the product of means."""

    def _check(self, name: str, values: Array) -> None:
        if ".lora_A." in name and values.tobytes() != self.start.tensor(name).tobytes():
            raise ToolkitError(
                f"it changed {name}, and the mean is exact where A stays as it was",
                "Train it with `freeze: a`",
            )

    def tensors(self) -> Iterator[tuple[str, Array]]:
        for name, values in super().tensors():
            yield name, self.start.tensor(name) if ".lora_A." in name else values


class Stack(OfAdapters):
    """The mean of the products, brought back to the rank.

    A's rows are orthogonal and as long as those of the replies were in the root mean square, so
    that a direction with no weight in B yet can be learned in the next round.
    """

    def __init__(self, specs: list[TensorSpec], start: Path) -> None:
        super().__init__(specs, start)
        self._replies: list[tuple[AdapterFolder, int]] = []

    def _add(self, adapter: AdapterFolder, reply: Reply) -> None:
        for spec in self.specs:
            adapter.tensor(spec.name)
        self._replies.append((adapter, reply.weight))

    def tensors(self) -> Iterator[tuple[str, Array]]:
        for a_name, b_name in pairs_of(self.specs):
            a = np.concatenate([reply.tensor(a_name) for reply, _ in self._replies])
            b = [reply.tensor(b_name).astype(np.float64) * w for reply, w in self._replies]
            rank = a.shape[0] // len(self._replies)
            down, up = nearest(a.astype(np.float64), np.concatenate(b, 1) / self.weight, rank)
            yield a_name, down.astype(np.float32, order="C")
            yield b_name, up.astype(np.float32, order="C")


AGGREGATORS: Mapping[str, Callable[[list[TensorSpec], Path], Aggregator]] = {
    "fedavg": FedAvg,
    "ffa": Ffa,
    "stack": Stack,
}


def pairs_of(specs: list[TensorSpec]) -> Iterator[tuple[str, str]]:
    """Yield the names of A and B of every projection."""
    for spec in specs:
        if ".lora_A." in spec.name:
            yield spec.name, spec.name.replace(".lora_A.", ".lora_B.")


def nearest(a: Array, b: Array, rank: int) -> tuple[Array, Array]:
    """Return A [rank, in] and B [out, rank] whose product is the nearest to b a of this rank.

    Args:
        a: [many, in], float64.
        b: [out, many].
    """
    qa, ra = np.linalg.qr(a.T)  # a = ra.T qa.T
    qb, rb = np.linalg.qr(b)
    u, values, v = np.linalg.svd(rb @ ra.T)
    length = np.sqrt(np.mean(np.sum(a * a, 1))) or 1.0
    down = (qa @ v.T)[:, :rank].T * length
    up = (qb @ u[:, : len(values)])[:, :rank] * (values[:rank] / length)
    return down, up


class ProductBias:
    """How far the product of the means is from the mean of the products, as replies come.

    The norm of the difference over the norm of the mean, over all projections together, estimated
    by what both make of a few random vectors (for normal x the mean of |M x|^2 is M's squared
    norm): nothing of the size of a weight exists, and no reply is needed twice.
    """

    def __init__(self, specs: list[TensorSpec], probes: int = 16) -> None:
        self._pairs = list(pairs_of(specs))
        shapes = {spec.name: spec.shape for spec in specs}
        draw = np.random.default_rng(0).standard_normal
        self._probes = {a: draw((shapes[a][1], probes)) for a, _ in self._pairs}
        self._sums = {b: np.zeros((shapes[b][0], probes)) for _, b in self._pairs}

    def add(self, tensor: Callable[[str], Array], weight: int) -> None:
        """Count a reply's products."""
        for a, b in self._pairs:
            self._sums[b] += self._made(tensor, a, b) * weight

    def of(self, tensor: Callable[[str], Array], weight: int) -> float:
        """Return the bias of an aggregate of replies whose weights sum up to `weight`."""
        difference = size = 0.0
        for a, b in self._pairs:
            mean = self._sums[b] / weight
            size += float(np.sum(mean**2))
            difference += float(np.sum((mean - self._made(tensor, a, b)) ** 2))
        return float(np.sqrt(difference / size)) if size > 0 else 0.0

    def _made(self, tensor: Callable[[str], Array], a: str, b: str) -> Array:
        made: Array = tensor(b).astype(np.float64) @ (tensor(a) @ self._probes[a])
        return made
