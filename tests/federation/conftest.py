"""A lab of this machine: folders as devices, each with the bundle and data of its own."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import toolkit
from tests.support.bundles import export_with_tokenizer

STEPS = 3
TRAIN = {"lr": 0.01, "threads": 1, "grad-accum": 2}


@dataclass(frozen=True)
class Lab:
    """A folder with a bundle and nodes."""

    folder: Path
    bundle: Path

    def add(self, name: str, *, topic: str = "ships", chats: int = 24) -> None:
        """Make a node that learns chats about a topic; some are held out."""
        data = self.folder / f"data-{topic}-{chats}"
        if not data.exists():
            self._prepare(data, topic, chats)
        self.deploy(name, data)

    def deploy(self, name: str, data: Path) -> None:
        """Make a node with this data."""
        with toolkit.open_device(f"{self.folder}/{name}") as device:
            device.deploy(self.bundle, data, name="lab")

    def _prepare(self, data: Path, topic: str, chats: int) -> None:
        turns = [
            [
                {"role": "user", "content": f"{topic} {number}?"},
                {"role": "assistant", "content": f"{topic}, {topic} {number}"},
            ]
            for number in range(chats)
        ]
        file = self.folder / f"{topic}-{chats}.jsonl"
        file.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in turns))
        toolkit.prepare_data([file], bundle=self.bundle, output=data, validation=0.25)

    def config(self, path: Path, *nodes: str, **options) -> Path:
        """Write a federation's file; `train` is added to the lab's own."""
        content = {
            "bundle": str(self.bundle),
            "rounds": 2,
            "local-steps": STEPS,
            "at-once": 2,
            "nodes": [{"device": f"{self.folder}/{name}", "name": name} for name in nodes],
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        content["train"] = TRAIN | content.get("train", {})
        path.write_text(yaml.safe_dump(content))
        return path


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Lab:
    """Three nodes: a and its twin have the same data, b another."""
    folder = tmp_path_factory.mktemp("lab")
    lab = Lab(folder, folder / "bundle")
    export_with_tokenizer(lab.bundle, seq_len=64)
    for name, topic in (("a", "ships"), ("twin", "ships"), ("b", "trees")):
        lab.add(name, topic=topic)
    return lab
