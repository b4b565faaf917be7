"""What goes between ServerApp and ClientApp, in Flower's records.

    to a node    arrays   ArrayRecord "adapter": all tensors in one row of float32
                          (by scalars other things: toolkit.federation.flower.scalars)
                 config   ConfigRecord: "server-round", from 1; "toolkit", the terms as JSON;
                          "layout", names and shapes of the tensors in their order, as JSON;
                          "steps", if they are other than the terms' own; "seconds", that are left
                          of the round's time, and a node that fails is to say in a report what it
                          took; "under-way", if all that is asked is whether a round is under way on
                          the node: its report says so
    from a node  arrays   what it trained, in the same row
                 metrics  MetricRecord: "num-examples", its labelled tokens; "loss"; "train-seconds"
                          and "peak-bytes"
                 report   ConfigRecord: "json", all that a node says of a round; with "failure" why
                          it has no part in it, and then no arrays and metrics

These are the keys that Flower's own strategies use. They send no "seconds", and a node that has no
part in a round answers them with an error, whose reason says why.

The tensors are one array because Flower sends every array by requests of its own, two or more each,
and its SuperLink 1.42 (no `--database`) looks at the objects of a message one after the other: of
one whose objects are those of another that is being removed meanwhile it answers HTTP 500, and some
stay in its memory. The more arrays, the longer it looks.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from toolkit import __version__
from toolkit.errors import ToolkitError
from toolkit.federation.orders import Order
from toolkit.federation.settings import FederationSettings, federation_of

ARRAYS, CONFIG, METRICS, REPORT = "arrays", "config", "metrics", "report"
ROUND, TERMS, STEPS, WEIGHT = "server-round", "toolkit", "steps", "num-examples"
LAYOUT, UNDER_WAY, SECONDS, _ALL = "layout", "under-way", "seconds", "adapter"
FAILURE = "failure"

Layout = Sequence[tuple[str, tuple[int, ...]]]
"""Names and shapes of an adapter's tensors, in their order."""


@dataclass(frozen=True)
class Terms:
    """What every node of a federation agrees on.

    Attributes:
        id: Of the federation; what nodes keep on their devices is named by it.
        bundle_sha256: What every node's bundle must be.
        settings: Its nodes are those of a simulation, by partition.
    """

    id: str
    bundle_sha256: str
    settings: FederationSettings

    def to_text(self) -> str:
        """Return everything as JSON."""
        settings = {**self.settings.to_json(), "adapter": None}
        return json.dumps(
            {
                "version": __version__,
                "id": self.id,
                "bundle": self.bundle_sha256,
                "settings": settings,
            }
        )

    @classmethod
    def of(cls, content: RecordDict) -> "Terms":
        """Return the terms in a message.

        Raises:
            ToolkitError: There are none, or they are of another version of toolkit.
        """
        try:
            given = json.loads(str(content.config_records[CONFIG][TERMS]))
            version = str(given.get("version", "without a version"))[:40]
            id, sha256, settings = str(given["id"]), str(given["bundle"]), dict(given["settings"])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ToolkitError(
                f"the message says nothing of the federation ({type(error).__name__}: {error})",
                "Use the ServerApp of toolkit, or `toolkit.federation.flower.start`",
            ) from error
        if version != __version__:
            raise ToolkitError(
                f"the server has toolkit {version}, and this node has {__version__}",
                "Install the same version on both",
            )
        if not id.isalnum() or len(id) > 24:
            raise ToolkitError(f"{id!r} names no federation")
        return cls(id, sha256, federation_of(settings, Path("/the server's settings")))


def config_record(
    round: int, terms: Terms, layout: Layout = (), steps: int | None = None
) -> ConfigRecord:
    """Return what a node is told beside the adapter; no layout where there is no adapter."""
    own: dict[str, int | str] = {} if steps is None else {STEPS: steps}
    if layout:
        own[LAYOUT] = json.dumps(layout)
    return ConfigRecord({ROUND: round, TERMS: terms.to_text(), **own})


def order_record(order: Order, terms: Terms, layout: Layout = ()) -> ConfigRecord:
    """Return what a node is told of an order."""
    config = config_record(order.round, terms, layout, order.steps)
    return ConfigRecord({**config, SECONDS: float(order.seconds)})


def question_of(round: int, terms: Terms) -> RecordDict:
    """Return what asks a node whether it has an order under way."""
    return RecordDict({CONFIG: ConfigRecord({**config_record(round, terms), UNDER_WAY: True})})


def within(content: RecordDict, seconds: float) -> RecordDict:
    """Return an order with the seconds that are left for it; any other message as it is."""
    config = content.config_records.get(CONFIG)
    if config is None or SECONDS not in config:
        return content
    told = ConfigRecord({**config, SECONDS: max(seconds, 0.0)})
    return RecordDict({**content, CONFIG: told})


def layout_of(arrays: Mapping[str, np.ndarray]) -> Layout:
    """Return names and shapes of arrays."""
    return [(name, tuple(values.shape)) for name, values in arrays.items()]


def layout_in(content: RecordDict) -> Layout:
    """Return what a message says of the adapter in it.

    Raises:
        ToolkitError: It says nothing, or no sizes.
    """
    try:
        said = json.loads(str(content.config_records[CONFIG][LAYOUT]))
        layout = [(str(name), tuple(int(size) for size in shape)) for name, shape in said]
    except (KeyError, ValueError, TypeError) as error:
        raise ToolkitError(
            f"the message does not say what its adapter is made of ({error})"
        ) from error
    if any(size < 1 for _, shape in layout for size in shape):
        raise ToolkitError("the message has an adapter with tensors of no size")
    return layout


def array_record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """Return float32 arrays as one of Flower's, in their order."""
    flat = [np.asarray(values, np.float32).reshape(-1) for values in arrays.values()]
    return ArrayRecord({_ALL: Array(np.concatenate(flat))})


def arrays_in(content: RecordDict, layout: Layout) -> dict[str, np.ndarray]:
    """Return the adapter in a message as float32, views of one array; a strategy may have made
    float64 of it.

    Raises:
        ToolkitError: There is none, or it is not of floats, or of another size.
    """
    try:
        array = content.array_records[ARRAYS][_ALL]
    except (KeyError, ValueError, TypeError) as error:
        raise ToolkitError(f"the message holds no adapter ({error})") from error
    sizes = [math.prod(shape) for _, shape in layout]
    row = _row(array.data, sum(sizes)).astype(np.float32, copy=False)
    parts = np.split(row, np.cumsum(sizes)[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(layout, parts, strict=True)}


def _row(data: bytes, size: int) -> np.ndarray:
    """Return the floats of a .npy file; its header is believed once all of it was looked at."""
    file = BytesIO(data)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("it is of another version of .npy than 1.0")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # of bytes that somebody else wrote: of syntax, depth, memory
        raise ToolkitError(f"the message holds no adapter ({str(error)[:200]})") from error
    if dtype.kind != "f":
        raise ToolkitError("the message holds no adapter of floats")
    if not size or shape != (size,):
        raise ToolkitError(
            f"the message holds an adapter of {math.prod(shape)} numbers, and {size} were expected"
        )
    if len(data) - file.tell() != size * dtype.itemsize:
        raise ToolkitError(f"the message holds an adapter that lacks some of its {size} numbers")
    return np.frombuffer(data, dtype, size, file.tell())


def size_of(content: RecordDict) -> int:
    """Return the bytes of a message's records as Flower carries them, without its envelopes: some
    hundred bytes more for every message, record and piece of an array.
    """
    arrays = content.array_records.values()
    others = (*content.config_records.values(), *content.metric_records.values())
    return sum(len(array.data) for record in arrays for array in record.values()) + sum(
        len(record.deflate()) for record in others
    )


def said_in(content: RecordDict, key: str) -> Mapping[str, Any]:
    """Return a JSON object of a record.

    Raises:
        ToolkitError: There is none.
    """
    try:
        said = json.loads(str(content.config_records[key]["json"]))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ToolkitError(f"the answer has no {key}") from error
    if not isinstance(said, dict):
        raise ToolkitError(f"the answer has no {key}")
    return said


def has_failed(reply: Message) -> bool:
    """Whether an answer is an error, or says why its node has no part in the round."""
    if reply.has_error() or not reply.has_content():
        return True
    try:
        return FAILURE in said_in(reply.content, REPORT)
    except ToolkitError:
        return False


def is_free(reply: Message) -> bool:
    """Whether a node says that nothing is under way on it."""
    try:
        return not said_in(reply.content, REPORT).get(UNDER_WAY)
    except (ToolkitError, ValueError):  # it is asked again a little later
        return False


def json_record(content: Mapping[str, Any]) -> ConfigRecord:
    """Return a JSON object as a record."""
    return ConfigRecord({"json": json.dumps(content)})
