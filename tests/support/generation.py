"""`trainer generate`, asked line by line."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from toolkit.runtime import native_directory


class Replier:
    """A running `trainer generate`; `start` are words that start another trainer."""

    def __init__(self, bundle: Path, *, start: Sequence[object] = (), **options: Any) -> None:
        self.bundle = bundle
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        words = start or [native_directory("trainer") / "trainer"]
        self.process = subprocess.Popen(
            [*map(str, words), "generate", "--bundle", str(bundle), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        ready = self.record()
        assert ready["type"] == "ready", ready
        self.context = ready["context"]
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.communicate(timeout=60)

    def record(self) -> dict[str, Any]:
        """Return the next line; a process that has ended fails with what it said."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def send(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> list[dict[str, Any]]:
        """Return everything that a request is answered with."""
        self.send(line)
        records = []
        while not records or records[-1]["type"] not in ("reply", "score", "failed"):
            records.append(self.record())
        return records

    def reply(self, tokens: list[int], **options: Any) -> tuple[list[int], dict[str, Any]]:
        """Return the tokens of a reply and its report."""
        for name, value in options.items():
            self.send(f"set {name.replace('_', '-')} {value}")
        records = self.ask("reply " + " ".join(map(str, tokens)))
        assert records[-1]["type"] == "reply", records[-1]
        found = [record["token"] for record in records if record["type"] == "token"]
        return found, records[-1]

    def score(self, tokens: list[int], given: int = 1, **options: Any) -> list[float]:
        """Return the log probability of every token but those that are given."""
        for name, value in options.items():
            self.send(f"set {name.replace('_', '-')} {value}")
        (found,) = self.ask(f"score {given} " + " ".join(map(str, tokens)))
        assert found["type"] == "score", found
        return found["log_probabilities"]
