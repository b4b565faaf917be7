"""Flower's ClientApp of one device: a SuperNode's `--node-config` names it, or its partition.

    flower-supernode --node-config 'device="SERIAL" name="anna"' ...

A process of its own for every message in Flower's deployment, so nothing here imports torch. What a
node keeps between rounds is on its device.
"""

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from safetensors import SafetensorError
from safetensors.numpy import load_file

from toolkit.bundle.flat_tensor_writer import ALIGNMENT, write_float32
from toolkit.bundle.peft_files import prefix_of
from toolkit.device.kept import ADAPTER
from toolkit.errors import ToolkitError
from toolkit.federation.flower import records, scalars
from toolkit.federation.node import Node
from toolkit.federation.orders import Lacking, NodeFailed, NodeReport, Order, UnfitNode
from toolkit.federation.settings import FederationSettings, NodeSettings, node_of

_RAISED = 2  # flwr's ErrorCode.CLIENT_APP_RAISED_EXCEPTION
_ALIGNMENT = 64
_KEYS = ("device", "name", "bundle", "data")

app = ClientApp()


@app.query()
def check(message: Message, context: Context) -> Message:
    """Say who this is, and whether it has what the federation needs; or whether it is busy."""

    def act() -> RecordDict:
        node = _node(message, context)
        if records.UNDER_WAY in message.content.config_records[records.CONFIG]:
            busy = {records.UNDER_WAY: _is_driven(node.run)}
            return RecordDict({records.REPORT: records.json_record(busy)})
        said = {"name": node.name, "fit": True, "reached": True, "why": "", "remedy": ""}
        try:
            node.check()
        except UnfitNode as error:
            said |= {"fit": False, "why": error.cause, "remedy": error.remedy}
        except ToolkitError as error:
            said |= {"reached": False, "why": error.cause}
        return RecordDict({records.REPORT: records.json_record(said)})

    return _answered(message, act)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the steps of a round from its adapter, and hand back what came of it."""

    def act() -> RecordDict:
        config = message.content.config_records[records.CONFIG]
        if config.get("proximal-mu"):
            raise NodeFailed(
                "the proximal term of FedProx is not part of the trainer", "Use another strategy"
            )
        steps = config.get(records.STEPS)
        report, arrays = _take(message, context, None if steps is None else int(str(steps)))
        content = RecordDict({
            records.METRICS: MetricRecord({
                records.WEIGHT: report.labelled,
                "loss": report.loss or 0.0,
                "train-seconds": report.train_seconds,
                "peak-bytes": report.peak_bytes,
            }),
            records.REPORT: records.json_record(report.to_json()),
        })  # fmt: skip
        if arrays is not None:
            content[records.ARRAYS] = arrays
        return content

    return _answered(message, act)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure an adapter on what the node holds out."""

    def act() -> RecordDict:
        report, _ = _take(message, context, 0)
        if report.held_out_loss is None:
            raise NodeFailed(report.held_out_error or "it holds out nothing")
        metrics = {records.WEIGHT: report.held_out_tokens, "loss": report.held_out_loss}
        return RecordDict({records.METRICS: MetricRecord(metrics)})

    return _answered(message, act)


def _answered(message: Message, act: Callable[[], RecordDict]) -> Message:
    """Return what an act comes to, or why it does not, as an answer."""
    try:
        return Message(act(), reply_to=message)
    except Lacking:
        return Message(scalars.lacking(), reply_to=message)
    except ToolkitError as error:
        spent = error.spent if isinstance(error, NodeFailed) else None
        if spent is None or records.SECONDS not in message.content.config_records[records.CONFIG]:
            return Message(Error(_RAISED, str(error)), reply_to=message)
        said = {**spent.to_json(), records.FAILURE: str(error)}
        return Message(RecordDict({records.REPORT: records.json_record(said)}), reply_to=message)


def _node(message: Message, context: Context) -> Node:
    terms = records.Terms.of(message.content)
    own = _member(context, terms.settings)
    settings = replace(terms.settings, nodes=(own,), min_nodes=1)
    return Node(
        settings=own,
        federation=settings,
        run=f"fed-{terms.id}-{own.name}",
        bundle_sha256=terms.bundle_sha256,
        say=lambda line: print(line, flush=True),
    )


def _member(context: Context, settings: FederationSettings) -> NodeSettings:
    """Return which device this node is: by its own configuration, or one of a simulation's."""
    own = {key: context.node_config[key] for key in _KEYS if key in context.node_config}
    if "device" in own:
        return node_of(own, 1, Path("--node-config"))
    number = context.node_config.get("partition-id")
    if number is None:
        raise ToolkitError(
            "the SuperNode names no device", "Start it with --node-config 'device=\"SERIAL\"'"
        )
    if not 0 <= int(number) < len(settings.nodes):
        raise ToolkitError(
            f"the simulation has a node {number}, and the federation {len(settings.nodes)} of them",
            "Give the simulation as many nodes as `nodes` has",
        )
    return settings.nodes[int(number)]


def _take(
    message: Message, context: Context, steps: int | None
) -> tuple[NodeReport, ArrayRecord | None]:
    """Do what a round asks; the arrays are None if that was no steps."""
    node, begun = _node(message, context), time.monotonic()
    by_scalars = node.federation.aggregate == "scalars"
    spared = by_scalars and scalars.KEY in message.content.config_records
    content = message.content
    arrays = {} if spared else records.arrays_in(content, records.layout_in(content))
    config = content.config_records[records.CONFIG]
    number = int(str(config.get(records.ROUND, 1)))
    seconds = 60 * node.federation.round_minutes
    seconds = min(seconds, float(str(config.get(records.SECONDS, seconds))))
    with tempfile.TemporaryDirectory() as name, _alone(node.run, seconds):
        folder = Path(name)
        left = seconds - (time.monotonic() - begun)
        steps = node.federation.local_steps if steps is None else steps
        order = scalars.order_in(message.content, number, steps, left, folder) if spared else None
        if order is None:
            path, alignment = folder / "adapter.ptd", ALIGNMENT if by_scalars else _ALIGNMENT
            sha256 = write_float32(path, arrays, alignment)
            order = Order(number, path, sha256.hex(), steps, left, folder)
        report = node.play(order)
        whole = steps and not by_scalars
        return report, _handed_back(folder / node.name, arrays) if whole else None


def _handed_back(folder: Path, sent: dict[str, np.ndarray]) -> ArrayRecord:
    try:
        own = load_file(folder / ADAPTER)
    except (OSError, SafetensorError) as error:
        raise NodeFailed(f"its adapter cannot be read ({error})") from error
    prefix = prefix_of(own, next(iter(sent)))
    trained = {name: own.get(prefix + name) for name in sent}
    for name, values in trained.items():
        if values is None or values.shape != sent[name].shape or values.dtype != np.float32:
            raise NodeFailed(f"its adapter has another {name} than was sent")
    return records.array_record({n: v for n, v in trained.items() if v is not None})


@contextmanager
def _alone(run: str, seconds: float) -> Iterator[None]:
    """Wait for another process that drives the same run, as after a server's end."""
    end = time.monotonic() + seconds
    with _lock_of(run).open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise NodeFailed(f"late: another process drives {json.dumps(run)}") from None
                time.sleep(0.2)
        yield


def _is_driven(run: str) -> bool:
    """Whether a process drives a run."""
    with _lock_of(run).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # no other question is in the way
        except BlockingIOError:
            return True
    return False


def _lock_of(run: str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"toolkit-federations-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{run}.lock"
