"""What a round asks of a node, what it answers, and how it fails."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError

DIRECTIONS = ("seed", "layers", "weight_decay", "lora_plus_ratio", "b_alone", "sparsity")
"""Of a session in a run's list of estimates: what its directions, and the moves along them, follow
from beside the steps' numbers."""


_SPENT = (
    *("seconds", "sent_bytes", "received_bytes", "down_bytes", "up_bytes"),
    *("lost", "hot_seconds"),
)


class Cancelled(Exception):
    """The federation ends; what nodes train goes on to the end of their round."""


class NodeFailed(ToolkitError):
    """A node that has no part in a round, and why.

    Attributes:
        spent: What it took all the same, as far as is known.
    """

    spent: "NodeReport | None" = None


class Lacking(NodeFailed):
    """A node that has not what the round's adapter is made from, and needs the whole one."""


class OtherName(NodeFailed):
    """A node that answers by another name than it was asked by."""


class UnfitNode(ToolkitError):
    """A node whose bundle, data or runtime is not the federation's."""


@dataclass(frozen=True)
class Replayed:
    """How a device makes the round's adapter by itself (toolkit.federation.scalars).

    Attributes:
        moves: File for `trainer replay`.
        base: SHA-256 of the content of the adapter that it is made from, hexadecimal.
        own: Whether that is the bundle's own.
        nodes: Names of those that came through the last round, and so should have it.
    """

    moves: Path
    base: str
    own: bool
    nodes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Order:
    """What a round asks of every node.

    Attributes:
        round: Its number, from 1; one after the last only evaluates.
        adapter: The adapter .ptd that it begins with; None: the bundle's own, or what `replayed`
            says alone.
        sha256: Of the adapter's content, hexadecimal.
        steps: To train; 0: none.
        seconds: That a node may take from when it begins; one that needs longer is late.
        replies: Folder for what comes back, a folder for every node.
        replayed: How a device can make the adapter; None: it cannot.
    """

    round: int
    adapter: Path | None
    sha256: str
    steps: int
    seconds: float
    replies: Path
    replayed: Replayed | None = None


@dataclass
class NodeReport:
    """What a node did in a round; losses in nats per token, times in seconds, sizes in bytes.

    Attributes:
        first_step, last_step: Of the node's own run.
        labelled: Tokens that were learned: the node's weight.
        loss: Mean over them.
        held_out_loss, held_out_tokens: Of the adapter that the round began with, on what the node
            holds out; None where it holds out nothing.
        held_out_error: Why that could not be measured; None where it could.
        train_seconds: Of its steps; `seconds` are of the whole round with transfers.
        peak_bytes: Highest resident memory of its trainer.
        sent_bytes, received_bytes: All that went to the device and came from it.
        down_bytes, up_bytes: Of records from the server and back, where these came over Flower.
        lost: How often the connection was lost and found again.
        hot_seconds: That its phone waited to cool down.
        scalars: Of every step its learning rate and the slopes along its directions, where these
            are all that is handed back.
        directions: What these directions follow from, as the run's list of estimates says it.
    """

    node: str
    first_step: int = 0
    last_step: int = 0
    labelled: int = 0
    loss: float | None = None
    held_out_loss: float | None = None
    held_out_tokens: int = 0
    held_out_error: str | None = None
    train_seconds: float = 0.0
    seconds: float = 0.0
    peak_bytes: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    down_bytes: int = 0
    up_bytes: int = 0
    lost: int = 0
    hot_seconds: float = 0.0
    scalars: list[tuple[float, list[float]]] | None = None
    directions: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def spent(self) -> dict[str, Any]:
        """Return who it is, and what a node takes also when nothing comes of it; what is nothing,
        or not known, is left out.
        """
        taken = {name: getattr(self, name) for name in _SPENT}
        return {"node": self.node, **{name: value for name, value in taken.items() if value}}
