"""The loop over rounds: nodes train at the same time, what they hand back is folded in in their
order, and a round counts once it is on storage.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.bundle.adapter import check_peft_settings, check_peft_weights, peft_weights
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.flat_tensor import FlatTensorReader, write_flat_tensor
from toolkit.bundle.flat_tensor_writer import ALIGNMENT
from toolkit.bundle.peft_files import peft_prefix
from toolkit.device.contents import checked_files
from toolkit.device.kept import ADAPTER
from toolkit.device.transfer import digest
from toolkit.errors import ToolkitError
from toolkit.federation.aggregation import AGGREGATORS, Aggregator, Reply
from toolkit.federation.fleet import Answer, Fleet, Lab
from toolkit.federation.orders import NodeFailed, NodeReport, Order, Replayed
from toolkit.federation.said import check_report, reason_of
from toolkit.federation.scalars import Scalars, replay_of, steps_in, write_moves
from toolkit.federation.settings import FederationSettings
from toolkit.federation.shown import Shown
from toolkit.federation.store import Store
from toolkit.files import sha256_file
from toolkit.lora import TEXT_MODULE, LoraSettings

_ALIGNMENT = 64  # of tensors in files that are sent: what a phone maps needs more


@dataclass
class Outcome:
    """What a round's nodes came to: reports of those that came through, reasons of the others and
    what these took all the same.
    """

    reports: list[NodeReport] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    failed: list[NodeReport] = field(default_factory=list)


class Federation:
    """A federation under way.

    Attributes:
        store: What of it is on storage.
        fleet: Its nodes.
        settings: What it was asked for.
    """

    def __init__(
        self,
        settings: FederationSettings,
        folder: Path,
        shown: Shown,
        *,
        resume: bool,
        fleet: Callable[[FederationSettings, str, str, Shown], Fleet] = Lab,
    ) -> None:
        """Open a federation, and begin or continue its folder.

        Args:
            fleet: Makes the nodes of settings, the federation's id and the digest of its bundle.

        Raises:
            ToolkitError: The bundle or the adapter to start from is damaged or not fit, or the
                folder holds something else.
        """
        self.settings, self._shown = settings, shown
        self._bundle = Bundle.open(settings.bundle)
        self._specs = self._bundle.adapter.specs()
        bundle_sha256 = digest(checked_files(self._bundle.path, "bundle"))
        self.store = self._resumed(folder, bundle_sha256) if resume else self._begun(
            folder, bundle_sha256
        )  # fmt: skip
        self.fleet = fleet(settings, self.store.id, bundle_sha256, shown)

    def _begun(self, folder: Path, bundle_sha256: str) -> Store:
        start, settings = self.settings.adapter, self.settings
        if start is not None:
            check_peft_settings(Path(start), LoraSettings.from_json(self._bundle.manifest["lora"]))
            check_peft_weights(Path(start), self._specs)
            values = peft_weights(Path(start), self._specs)
            tensors = zip((spec.name for spec in self._specs), values, strict=True)
        else:
            reader = self._bundle.adapter
            tensors = zip(reader, map(reader.tensor, reader), strict=True)
        own = {name: values.numpy() for name, values in tensors}
        store = Store.create(
            folder, settings, {"bundle_sha256": bundle_sha256, "start": self._start()}
        )
        store.begin_with(self._named(iter(own.items())), self._bundle.path / "adapter_config.json")
        return store

    def _resumed(self, folder: Path, bundle_sha256: str) -> Store:
        store, settings = Store.open(folder), self.settings
        if store.fact("bundle_sha256") != bundle_sha256:
            raise ToolkitError(
                f"{settings.bundle} is not the bundle that the federation in {folder} began with",
                "Name that one, or start another federation",
            )
        if store.fact("start") != self._start():
            raise ToolkitError(
                f"the federation in {folder} began with another adapter",
                "Name the `adapter` that it began with, or none if there was none",
            )
        before = store.fact("settings")
        now = settings.fixed()
        changed = [name for name, value in now.items() if before[name] != value]
        if changed:
            raise ToolkitError(
                f"the federation in {folder} began with another {changed[0]}",
                "Give it as it was, or start another federation",
            )
        if before != settings.to_json():
            store.go_on(settings)
        return store

    def _start(self) -> str | None:
        """Return the digest of the adapter that settings name; None: the bundle's own."""
        start = self.settings.adapter
        return None if start is None else sha256_file(Path(start) / ADAPTER)

    def _named(self, tensors: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        module = self._bundle.manifest["model"].get("text_module", TEXT_MODULE)
        for name, values in tensors:
            yield peft_prefix(module) + name, values

    @property
    def model(self) -> str:
        """The name of the model."""
        return str(self._bundle.manifest["model"]["name"])

    def run(self) -> None:
        """Go through all rounds that are left, and measure what they came to.

        Raises:
            ToolkitError: Too few nodes came through a round, which can be tried again.
        """
        store, settings = self.store, self.settings
        self._shown.goes_on(store.records())
        while store.round < settings.rounds:
            self._round(store.round + 1)
        if store.final is None:
            begun, outcome = time.time(), Outcome()
            if settings.evaluate != "off":
                self._shown.say("measuring what the rounds came to")
                with self._order(settings.rounds + 1, steps=0) as order:
                    outcome = self._play(order, None)
            store.end(_record(settings.rounds + 1, begun, outcome))
        self._shown.ended(store.records(), store.final or {})

    def _round(self, number: int) -> None:
        begun, before = time.time(), self.store.adapter
        aggregator = self._aggregator(number, before)
        self._shown.begins(number, self.settings.rounds, self.fleet.size())
        with self._order(number, self.settings.local_steps) as order:
            outcome = self._play(order, aggregator)
            if len(outcome.reports) < self.settings.min_nodes:
                reasons = "; ".join(f"{name}: {why}" for name, why in outcome.failures.items())
                raise ToolkitError(
                    f"round {number} does not count: {len(outcome.reports)} of "
                    f"{len(outcome.reports) + len(outcome.failures)} nodes came through, "
                    f"{self.settings.min_nodes} are needed ({reasons[:600]})",
                    "Mend them, and go on with --resume",
                )
            result = self.store.draft(number, self._named(aggregator.tensors()))
            record = _record(number, begun, outcome)
            record["product_bias"] = aggregator.bias(result)
            record["adapter_sha256"] = order.sha256
        self.store.finish(number, record)
        self._shown.finished(record)

    def _aggregator(self, number: int, before: Path) -> Aggregator:
        if self.settings.aggregate != "scalars":
            return AGGREGATORS[self.settings.aggregate](self._specs, before)
        return Scalars(self._specs, before, self.settings, number, self._layers)

    @property
    def _layers(self) -> int:
        return int(self._bundle.manifest["shape"]["layers"])

    @contextmanager
    def _order(self, number: int, steps: int) -> Iterator[Order]:
        """Yield what a round asks; what came back for it goes at the end."""
        replies = self.store.scratch()
        adapter: Path | None = replies / "adapter.ptd"
        sha256 = self._bundle.adapter.sha256().hex()
        if number == 1 and self.settings.adapter is None:
            adapter = None
        else:
            values = peft_weights(self.store.adapter, self._specs)
            # What devices make by themselves has the layout of the bundle's own.
            alignment = ALIGNMENT if self.settings.aggregate == "scalars" else _ALIGNMENT
            write_flat_tensor(replies / "adapter.ptd", self._specs, values, alignment)
            sha256 = FlatTensorReader(replies / "adapter.ptd").sha256().hex()
        seconds = 60 * self.settings.round_minutes
        try:
            replayed = self._replayed(replies)
            yield Order(number, adapter, sha256, steps, seconds, replies, replayed)
        finally:
            self.store.scratch().rmdir()

    def _replayed(self, replies: Path) -> Replayed | None:
        """Write what the last round's adapter came from, where nodes can replay that."""
        if self.settings.aggregate != "scalars" or self.store.round == 0:
            return None
        record = self.store.records()[-1]
        replay = replay_of(self.settings, record["round"], self._layers, steps_in(record))
        write_moves(replies / "moves.ptd", replay, replies / "adapter.ptd")
        own = record["round"] == 1 and self.settings.adapter is None
        nodes = frozenset(node["node"] for node in record["nodes"])
        return Replayed(replies / "moves.ptd", record["adapter_sha256"], own, nodes)

    def _play(self, order: Order, aggregator: Aggregator | None) -> Outcome:
        """Have all nodes do what a round asks, and fold in what they hand back."""
        outcome = Outcome()
        for name, answer in self.fleet.play(order):
            folder = order.replies / name
            try:
                if isinstance(answer, NodeFailed):
                    raise answer
                check_report(answer)
                if aggregator is not None:
                    self._check(answer, order.steps)
                    aggregator.add(Reply(name, folder, answer.labelled, answer))
            except ToolkitError as error:
                why = reason_of(str(error) if error is answer else error.cause)
                outcome.failures[name] = why
                outcome.failed += _spent(answer)
                self._shown.failed(name, why)
                continue
            outcome.reports.append(answer)
            self._shown.came(order.round, answer)
            if self.settings.aggregate != "stack":  # which needs all of them at the end
                shutil.rmtree(folder, ignore_errors=True)
        return outcome

    def _check(self, report: NodeReport, steps: int) -> None:
        """Raise NodeFailed unless a report can be of so many steps."""
        if report.loss is None:
            raise NodeFailed("its report has no loss")
        train, longest = self.settings.train, max(self._bundle.manifest["seq_lens"])
        most = steps * train.batch_size * train.grad_accum * longest
        if report.labelled > most:  # it would outweigh the others
            raise NodeFailed(
                f"it says that it learned {report.labelled} tokens, and its steps have up to {most}"
            )


def _record(number: int, begun: float, outcome: Outcome) -> dict[str, Any]:
    reports = outcome.reports
    learned = [(r.loss, r.labelled) for r in reports if r.loss is not None]
    held_out = [
        (r.held_out_loss, r.held_out_tokens) for r in reports if r.held_out_loss is not None
    ]
    return {
        "round": number,
        "time_unix": begun,
        "seconds": time.time() - begun,
        "loss": _mean(learned),
        "held_out_loss": _mean(held_out),
        "held_out_nodes": len(held_out),
        "nodes": [report.to_json() for report in reports],
        "failures": outcome.failures,
        "failed": [report.spent() for report in outcome.failed],
    }


def _spent(answer: Answer) -> Iterator[NodeReport]:
    """Yield what a node took of which nothing came, if that is known and makes sense."""
    report = answer.spent if isinstance(answer, NodeFailed) else answer
    with suppress(NodeFailed):
        if report is not None:
            check_report(report)
            yield report


def _mean(values: list[tuple[float, int]]) -> float | None:
    """Return the mean of losses over tokens."""
    tokens = sum(count for _, count in values)
    return sum(loss * count for loss, count in values) / tokens if tokens else None
