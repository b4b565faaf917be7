"""What a federation is asked for, declared once; its file is YAML or TOML."""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from toolkit.errors import ToolkitError
from toolkit.settings.config import Words
from toolkit.settings.declaration import Setting, Value, by_flag, setting, settings_of
from toolkit.settings.training import TrainSettings

AGGREGATIONS = ("fedavg", "ffa", "stack", "scalars")
_MANY = 1_000_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,23}")
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")
_REPLAYED = ("mezo", "mobizo")
_UNSET = ("steps", "epochs", "eval-every", "patience", "keep", "keep-checkpoints")
"""Settings of a run that a federation decides, or that its rounds take the place of."""


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """One node: a device, and what it has already.

    Attributes:
        name: In reports; from the device if it is not given.
        device: As `toolkit.open_device` takes it.
        bundle, data: Names on the device; None: the one with the federation's content, and the data
            last sent.
    """

    name: str
    device: str
    bundle: str | None = None
    data: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scalars:
    """What is a number or a word of a federation's settings."""

    # fmt: off
    bundle: str = setting("bundle", "The bundle, here; every node must have the same.")
    rounds: int = setting(10, "Rounds.", unit="rounds", minimum=1, maximum=_MANY)
    local_steps: int = setting(
        20, "Steps of a node in a round.", unit="steps", minimum=1, maximum=_MANY,
    )
    aggregate: str = setting(
        "fedavg", "How adapters become one: the mean of A and of B, whose product is not the mean "
        "of the products; ffa: the mean of B where no node changes A; stack: the mean of the "
        "products, brought back to the rank by an SVD; scalars: the steps of all nodes of mezo, "
        "replayed by all.",
        choices=AGGREGATIONS,
    )
    state: str = setting(
        "keep", "Whether a node keeps what its optimizer remembers and its place in the data "
        "between rounds, or begins anew with every adapter.",
        choices=("keep", "drop"),
    )
    adapter: str | None = setting(
        None, "Start from this adapter instead of the bundle's: a PEFT folder.",
    )
    min_nodes: int = setting(
        1, "Nodes that must have come through for a round to count.",
        unit="nodes", minimum=1, maximum=_MANY,
    )
    at_once: int = setting(
        0, "Nodes that train at the same time; 0: all.", unit="nodes", minimum=0, maximum=_MANY,
    )
    round_minutes: float = setting(
        60.0, "A node that takes longer for a round is late, and left out of it.",
        unit="minutes", minimum=0.001, maximum=1e6,
    )
    evaluate: str = setting(
        "auto", "Measure every round's adapter on the data that nodes hold out; auto: where they "
        "have some.",
        choices=("auto", "off"),
    )
    max_samples: int = setting(
        0, "Of held-out data only the first N sequences; 0 is all.",
        unit="samples", minimum=0, maximum=_MANY,
    )
    # fmt: on


SETTINGS: tuple[Setting, ...] = settings_of(Scalars)
_FIXED = ("local-steps", "aggregate", "state")


@dataclass(frozen=True, kw_only=True)
class FederationSettings(Scalars):
    """Settings of a federation, checked when they are made.

    Attributes:
        nodes: The devices; none where others bring them (toolkit.federation.flower).
        train: Settings of every node's run; its steps are those of all rounds.

    Raises:
        ToolkitError: A value is out of range, or two contradict each other.
    """

    nodes: tuple[NodeSettings, ...] = ()
    train: TrainSettings = field(default_factory=TrainSettings)

    def __post_init__(self) -> None:
        for known in SETTINGS:
            object.__setattr__(self, known.name, known.value_of(getattr(self, known.name)))
        _check_nodes(self.nodes, self.min_nodes)
        if self.aggregate == "scalars" and self.train.method not in _REPLAYED:
            raise ToolkitError(
                f"`aggregate: scalars` replays a round's steps from its adapter and a number each, "
                f"and those of {self.train.method} take more",
                "Add `method: mezo` to `train`, or mobizo",
            )
        if self.state == "drop" and self.train.schedule != "constant":
            raise ToolkitError(
                f"a {self.train.schedule} schedule goes over all rounds, and with `state: drop` a "
                "node begins anew in every one",
                "Use `schedule: constant`, or `state: keep`",
            )
        if self.aggregate == "stack" and self.state == "keep":
            raise ToolkitError(
                "the SVD of `aggregate: stack` turns A and B, so what an optimizer remembers of "
                "them would not fit",
                "Add `state: drop`",
            )
        if self.train.method == "split":
            raise ToolkitError(
                "`method: split` leaves most of a model to one computer",
                "Choose another method",
            )
        if self.aggregate == "ffa" and self.train.method != "mobizo" and self.train.freeze != "a":
            raise ToolkitError(
                f"`aggregate: ffa` is exact where no node changes A, and {self.train.method} does",
                "Add `freeze: a` to `train`, which trains B alone, or use another aggregate",
            )

    def run_settings(self, round: int, node: str = "") -> TrainSettings:
        """Return the settings of the run that a node trains in a round, counted from 1."""
        seed, steps = self.train.seed, self.rounds * self.local_steps
        if self.state == "drop":
            # Another order of the samples, or the first ones would be all that is ever seen.
            seed, steps = seed + round - 1, self.local_steps
        if self.aggregate == "scalars":
            seed = _own_seed(seed, node)
        return TrainSettings.of({**self.train.flags(), "steps": steps, "seed": seed})

    def fixed(self) -> dict[str, Any]:
        """Return what must stay as it is when a federation goes on, as JSON values."""
        own = {known.flag: getattr(self, known.name) for known in SETTINGS if known.flag in _FIXED}
        return {**own, "train": self.train.flags()}

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values, as its file says it."""
        own = {known.flag: getattr(self, known.name) for known in SETTINGS}
        nodes = [{k: v for k, v in vars(node).items() if v is not None} for node in self.nodes]
        return {**own, "nodes": nodes, "train": self.train.flags()}


def read_federation(path: Path) -> FederationSettings:
    """Return what a federation's file says; paths in it are relative to the file.

    Raises:
        ToolkitError: It cannot be read, or a key is unknown (the nearest is named) or wrong.
    """
    return federation_of(_content(path), path)


def federation_of(content: dict[str, Any], path: Path) -> FederationSettings:
    """Return what the content of a federation's file says; `path` is the file's.

    Raises:
        ToolkitError: A key is unknown (the nearest is named) or wrong.
    """
    content = dict(content)
    nodes, train = content.pop("nodes", None) or [], content.pop("train", None) or {}
    if not isinstance(nodes, list) or not isinstance(train, Mapping):
        what = "train is no map" if isinstance(nodes, list) else "there is no list of nodes"
        raise ToolkitError(
            f"{path}: {what}",
            "Write `nodes:` with a line `- device: SERIAL` each, and `train:` with settings below",
        )
    values = by_flag(content, SETTINGS, str(path))
    names = {known.flag: known.name for known in SETTINGS}
    given: dict[str, Any] = {names[flag]: v for flag, v in values.items() if v is not None}
    for name in ("bundle", "adapter"):
        if name in given or name == "bundle":
            given[name] = str(_beside(path, given.get(name, "bundle")))
    members = [node_of(node, number, path) for number, node in enumerate(nodes, 1)]
    return FederationSettings(nodes=tuple(members), train=_train(train, path), **given)


def _content(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else yaml.load(text, Words)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ToolkitError(f"{path} cannot be read: {reason}", "Check the path") from error
    except (yaml.YAMLError, tomllib.TOMLDecodeError) as error:
        reason = " ".join(str(error).split())[:300]
        kind = "TOML" if path.suffix == ".toml" else "YAML"
        raise ToolkitError(f"{path} is no {kind}: {reason}", "Write lines as in --help") from error
    if not isinstance(content, dict):
        raise ToolkitError(f"{path} holds no settings", "Write lines as in --help")
    return content


def _train(given: Mapping[str, Any], path: Path) -> TrainSettings:
    flags = {str(key).replace("_", "-"): value for key, value in given.items()}
    default = TrainSettings().flags()
    if named := next((f for f in _UNSET if flags.get(f, default.get(f)) != default.get(f)), None):
        raise ToolkitError(
            f"{path}: train has {named!r}, which a federation's rounds take the place of",
            "Leave it away; `rounds` and `local-steps` say how long nodes train",
        )
    # Nobody looks at the phases of many nodes, and their records are many times the adapter's size.
    return TrainSettings.of({"trace": "steps", **flags}, f"{path}: train")


def node_of(given: Any, number: int, path: Path) -> NodeSettings:
    """Return what is said of one node; `path` is where, and what folders are relative to.

    Raises:
        ToolkitError: It names no device, or a key is unknown.
    """
    where = f"{path}: node {number}"
    if isinstance(given, str | int):
        given = {"device": str(given)}
    known = tuple(NodeSettings.__dataclass_fields__)
    if not isinstance(given, dict) or "device" not in given:
        raise ToolkitError(f"{where} names no device", "Write `- device: SERIAL`")
    if unknown := next((key for key in given if key not in known), None):
        raise ToolkitError(f"{where} has an unknown key {unknown!r}", f"Known: {', '.join(known)}")
    texts: dict[str, Any] = {key: str(value) for key, value in given.items() if value is not None}
    if "/" in texts["device"]:
        texts["device"] = str(_beside(path, texts["device"]))
    texts.setdefault("name", _OTHER.sub("-", Path(texts["device"]).name).strip("-._")[:24])
    return NodeSettings(**texts)


def _own_seed(seed: int, node: str) -> int:
    """Return a seed that no other node has: directions of all nodes differ."""
    return int.from_bytes(hashlib.sha256(f"{seed} {node}".encode()).digest()[:6], "little")


def _beside(path: Path, name: Value) -> Path:
    return path.parent.absolute() / Path(str(name)).expanduser()


def _check_nodes(nodes: tuple[NodeSettings, ...], least: int) -> None:
    if nodes and len(nodes) < least:
        raise ToolkitError(
            f"a round counts with {least} nodes, and there are {len(nodes)}",
            "Name more nodes, or lower min-nodes",
        )
    seen: set[str] = set()
    for node in nodes:
        if not NAME.fullmatch(node.name):
            raise ToolkitError(
                f"{node.name!r} cannot name a node",
                "Give it a `name` of up to 24 letters, digits, dots, dashes and underscores",
            )
        if node.name.casefold() in seen:
            raise ToolkitError(f"two nodes are named {node.name!r}", "Give each its own `name`")
        seen.add(node.name.casefold())
    devices = [node.device for node in nodes]
    if twice := next((device for device in devices if devices.count(device) > 1), None):
        raise ToolkitError(
            f"two nodes are on device {twice}", "Give each a device, or a folder, of its own"
        )
