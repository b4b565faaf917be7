"""Federations by scalars: nodes hand back the numbers that their steps went by; all replay them.

A step of mezo or mobizo moves the adapter along random directions, which follow from a seed and the
step's number, by the slopes g of the loss along them. So a round is a list of (seed, g) pairs, some
hundred bytes a node; with it every node makes the next adapter from the last one, to the bit.

The rule: from the adapter p that the round began with, for one node i after the other in the order
of the round, for every step of it with its rate lr, and for every direction z of the step,

    p = p keep + factor z,  factor = -(lr s_i g) / queries,  s_i = w_i / sum of w,
    keep = 1 - lr s_i weight_decay for the first direction of a step, else 1

in float32 operations (toolkit.replaying.replay), w_i the node's labelled tokens: up to rounding the
mean of the adapters that the nodes came to, and of one node its own adapter to the bit. A node's
seed is made of the federation's and its name, so that no two nodes try the same directions.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.bundle.flat_tensor import FlatTensorReader, TensorSpec
from toolkit.bundle.flat_tensor_writer import FLOAT32, INT32, UINT8, Piece, write_pieces
from toolkit.errors import ToolkitError
from toolkit.federation.aggregation import AdapterFolder, Aggregator, Array, Reply, check_weight
from toolkit.federation.settings import FederationSettings
from toolkit.layers import parse_layers
from toolkit.replaying.estimates import Estimate
from toolkit.replaying.replay import apply, moves, places

_ALIGNMENT = 64
_LARGEST = 1e30  # of a step along one direction: sums of many stay finite


@dataclass(frozen=True)
class Steps:
    """What a node did in a round.

    Attributes:
        weight: Its labelled tokens.
        first: Number of its first step, in its own run.
        scalars: Of every step its learning rate, and the slopes along its directions.
    """

    node: str
    weight: int
    first: int
    scalars: Sequence[tuple[float, Sequence[float]]]


@dataclass(frozen=True)
class Replay:
    """All steps of a round, in order, as they are applied to the adapter that it began with.

    Attributes:
        steps: A node's seed and one of its steps each; rates are multiplied by the node's share.
        layers: That are moved.
        b_alone: Whether every A stays as it is.
    """

    steps: list[tuple[int, Estimate]]
    layers: tuple[int, ...]
    b_alone: bool

    def tensors(self, start: AdapterFolder) -> Iterator[tuple[str, Array]]:
        """Yield names and float32 values of the adapter that the steps make of another."""
        where, moved = places(start.names), set(self.layers)
        for name in start.names:
            values, place = np.array(start.tensor(name), np.float32), where[name]
            if place.layer in moved and (place.is_b or not self.b_alone):
                for seed, step in self.steps:
                    apply(step, seed, place, values.reshape(-1), np.float32(np.inf))
            yield name, values


def replay_of(
    settings: FederationSettings, round: int, layers: int, nodes: Sequence[Steps]
) -> Replay:
    """Return a round's steps; `layers` are those of the model."""
    run, total = settings.train.effective(), sum(node.weight for node in nodes)
    decay, ratio = float(run.weight_decay or 0.0), float(run.lora_plus_ratio)
    steps = []
    for node in nodes:
        seed, share = settings.run_settings(round, node.node).seed, node.weight / total
        for number, (rate, slopes) in enumerate(node.scalars, node.first):
            steps.append((seed, Estimate(number, rate * share, decay, ratio, tuple(slopes))))
    b_alone = run.method == "mobizo" or run.freeze == "a"
    return Replay(steps, parse_layers(run.layers or "", layers), b_alone)


def steps_in(record: Mapping[str, Any]) -> list[Steps]:
    """Return what the nodes of a finished round did, by its round.json."""
    return [
        Steps(node["node"], node["labelled"], node["first_step"], node["scalars"])
        for node in record["nodes"]
    ]


class Scalars(Aggregator):
    """Replays the steps of all nodes; holds nothing but their numbers."""

    def __init__(
        self,
        specs: list[TensorSpec],
        start: Path,
        settings: FederationSettings,
        round: int,
        layers: int,
    ) -> None:
        """Begin a round.

        Args:
            specs: The tensors of the bundle's adapter.
            start: Folder of the adapter that the round begins with.
            layers: Of the model.
        """
        self._start = AdapterFolder(start, specs)
        self._settings, self._round, self._layers = settings, round, layers
        self._nodes: list[Steps] = []

    def add(self, reply: Reply) -> None:
        check_weight(reply)
        report = reply.report
        if report is None or report.scalars is None:
            raise ToolkitError("it handed back no steps")
        self._check(report.scalars, report.first_step)
        self._check_directions(reply.node, report.directions)
        self._nodes.append(Steps(reply.node, reply.weight, report.first_step, report.scalars))

    def _check(self, scalars: Sequence[tuple[float, Sequence[float]]], first: int) -> None:
        """Raise ToolkitError unless these are the numbers of a round's steps."""
        run, wanted = self._settings.train.effective(), self._settings.local_steps
        if len(scalars) != wanted or not 1 <= first <= (1 << 31) - wanted:  # steps are int32
            raise ToolkitError(f"it handed back {len(scalars)} of {wanted} steps, from {first} on")
        for rate, slopes in scalars:
            known = len(slopes) == (run.queries or 1) and 0 <= rate <= run.learning_rate
            sizes = (abs(rate * slope) * run.lora_plus_ratio for slope in slopes)
            if not known or not all(math.isfinite(size) and size < _LARGEST for size in sizes):
                raise ToolkitError(f"a step that it handed back makes no sense ({rate}, {slopes})")

    def _check_directions(self, node: str, said: Mapping[str, Any] | None) -> None:
        """Raise ToolkitError unless a node went along the directions that are replayed for it."""
        if said is None:
            raise ToolkitError("it does not say which directions it went along")
        one = Steps(node, 1, 1, [(0.0, [0.0])])
        replay = replay_of(self._settings, self._round, self._layers, [one])
        [(seed, step)] = replay.steps
        text = str(said["layers"])
        own = {**said, "layers": parse_layers("" if text == "all" else text, self._layers)}
        wanted = {
            "seed": seed,
            "layers": replay.layers,
            "weight_decay": step.weight_decay,
            "lora_plus_ratio": step.lora_plus_ratio,
            "b_alone": replay.b_alone,
            "sparsity": 0.0,
        }
        for key, value in wanted.items():
            if own[key] != value:
                raise ToolkitError(
                    f"it went along other directions than are replayed for it ({key}: "
                    f"{str(said[key])[:60]})"
                )

    def tensors(self) -> Iterator[tuple[str, Array]]:
        replay = replay_of(self._settings, self._round, self._layers, self._nodes)
        return replay.tensors(self._start)

    def bias(self, result: Path) -> float | None:
        return None  # nobody has the nodes' adapters


def write_moves(path: Path, replay: Replay, result: Path) -> None:
    """Write a round's steps for `trainer replay` (runtime/engine/training/replay.cc).

    Args:
        result: The adapter .ptd that they come to, which has the layout of the bundle's own.
    """
    seeds = list(dict.fromkeys(seed for seed, _ in replay.steps))
    at = {seed: number for number, seed in enumerate(seeds)}
    rows = [
        ((at[seed], step.step, query), move)
        for seed, step in replay.steps
        for query, move in enumerate(moves(step))
    ]
    arrays: dict[str, Array] = {
        "seeds": np.array([(s & 0xFFFFFFFF, s >> 32) for s in seeds], np.uint32).view(np.int32),
        "layers": np.array(replay.layers, np.int32).reshape(-1, 1),
        "b_alone": np.array([[replay.b_alone]], np.int32),
        "places": np.array([place for place, _ in rows], np.int32),
        "factors": np.array([move for _, move in rows], np.float32),
        "tail": np.frombuffer(_tail(result), np.uint8),
    }
    kinds = {np.dtype(np.int32): INT32, np.dtype(np.float32): FLOAT32, np.dtype(np.uint8): UINT8}
    pieces = [Piece(n, kinds[v.dtype], v.shape, v.nbytes) for n, v in arrays.items()]
    write_pieces(path, pieces, ([v.tobytes()] for v in arrays.values()), _ALIGNMENT)


def _tail(path: Path) -> bytes:
    """Return what stands behind the last tensor of an adapter .ptd."""
    reader = FlatTensorReader(path)
    last = reader.keys()[-1]
    with path.open("rb") as file:
        file.seek(reader.offset(last) + reader.spec(last).nbytes)
        return file.read()
