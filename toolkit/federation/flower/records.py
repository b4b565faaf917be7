"""What goes between ServerApp and ClientApp, in Flower's records.

    to a node    arrays   ArrayRecord: the adapter, float32, by the names that adapter.ptd has
                          (by scalars other things: toolkit.federation.flower.scalars)
                 config   ConfigRecord: "server-round", from 1; "toolkit", the terms as JSON;
                          "steps", if they are other than the terms' own
    from a node  arrays   what it trained
                 metrics  MetricRecord: "num-examples", its labelled tokens; "loss"; "train-seconds"
                          and "peak-bytes"
                 report   ConfigRecord: "json", all that a node says of a round

These are the keys that Flower's own strategies use. A node that has no part in a round answers with
an error, whose reason says why.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from toolkit.errors import ToolkitError
from toolkit.federation.settings import FederationSettings, federation_of

ARRAYS, CONFIG, METRICS, REPORT = "arrays", "config", "metrics", "report"
ROUND, TERMS, STEPS, WEIGHT = "server-round", "toolkit", "steps", "num-examples"


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
        return json.dumps({"id": self.id, "bundle": self.bundle_sha256, "settings": settings})

    @classmethod
    def of(cls, content: RecordDict) -> "Terms":
        """Return the terms in a message.

        Raises:
            ToolkitError: There are none, or this version does not know a setting of theirs.
        """
        try:
            given = json.loads(str(content.config_records[CONFIG][TERMS]))
            id, sha256, settings = str(given["id"]), str(given["bundle"]), dict(given["settings"])
        except (KeyError, ValueError, TypeError) as error:
            raise ToolkitError(
                f"the message says nothing of the federation ({type(error).__name__}: {error})",
                "Use the ServerApp of toolkit, or `toolkit.federation.flower.start`",
            ) from error
        if not id.isalnum() or len(id) > 24:
            raise ToolkitError(f"{id!r} names no federation")
        return cls(id, sha256, federation_of(settings, Path("/the server's settings")))


def config_record(round: int, terms: Terms, steps: int | None = None) -> ConfigRecord:
    """Return what a node is told beside the adapter."""
    own = {} if steps is None else {STEPS: steps}
    return ConfigRecord({ROUND: round, TERMS: terms.to_text(), **own})


def array_record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """Return arrays as Flower's, in their order."""
    return ArrayRecord({name: Array(np.ascontiguousarray(v)) for name, v in arrays.items()})


def arrays_in(content: RecordDict) -> dict[str, np.ndarray]:
    """Return the adapter in a message.

    Raises:
        ToolkitError: There is none, or it is not of float32.
    """
    try:
        arrays = {name: array.numpy() for name, array in content.array_records[ARRAYS].items()}
    except (KeyError, ValueError, TypeError, EOFError) as error:
        raise ToolkitError(f"the message holds no adapter ({error})") from error
    if not arrays or any(values.dtype != np.float32 for values in arrays.values()):
        raise ToolkitError("the message holds no adapter of float32")
    return arrays


def said_in(content: RecordDict, key: str) -> Mapping[str, Any]:
    """Return a JSON object of a record.

    Raises:
        ToolkitError: There is none.
    """
    try:
        said = json.loads(str(content.config_records[key]["json"]))
    except (KeyError, ValueError) as error:
        raise ToolkitError(f"the answer has no {key}") from error
    if not isinstance(said, dict):
        raise ToolkitError(f"the answer has no {key}")
    return said


def json_record(content: Mapping[str, Any]) -> ConfigRecord:
    """Return a JSON object as a record."""
    return ConfigRecord({"json": json.dumps(content)})
