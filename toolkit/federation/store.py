"""What of a federation survives a kill: the folder that it writes.

    federation.json          what it is, and the last round that is finished: written last, sealed
    rounds/0003/round.json   what a round came to
    rounds/0003/adapter_*    the adapter after it, of the last finished round alone
    adapter_*                the same, where peft and other commands look for it

A round's folder appears whole; it counts once federation.json names it, and what is beyond that is
done again.
"""

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from toolkit.device.kept import ADAPTER, CONFIG
from toolkit.errors import ToolkitError
from toolkit.federation.settings import FederationSettings
from toolkit.files import atomic_directory, atomic_file, sha256_file
from toolkit.sealed_json import is_sealed, seal

FILE = "federation.json"
ROUND = "round.json"
_VERSION = 1


class Store:
    """The folder of one federation.

    Attributes:
        id: A random word that no other federation has.
        round: The last finished round; 0 before the first.
        final: What was measured of the adapter after the last of all rounds, None before that.
    """

    def __init__(self, folder: Path, state: dict[str, Any]) -> None:
        self.folder = folder
        self._state = state

    @classmethod
    def create(
        cls, folder: Path, settings: FederationSettings, facts: Mapping[str, Any]
    ) -> "Store":
        """Begin a federation in a folder that is new or empty.

        Args:
            facts: What the nodes must agree on: the bundle's content and the adapter it began with.

        Raises:
            ToolkitError: The folder holds something.
        """
        if folder.is_dir() and [path.name for path in folder.iterdir()] == ["rounds"]:
            shutil.rmtree(folder / "rounds")  # of one that was killed before it had begun
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            held = "a federation" if (folder / FILE).exists() else "something"
            raise ToolkitError(
                f"{folder} holds {held}", "Continue it with --resume, or choose another --out"
            )
        folder.mkdir(parents=True, exist_ok=True)
        state = {"version": _VERSION, "id": new_id(), "round": 0, "final": None}
        store = cls(folder, {**state, **facts, "settings": settings.to_json()})
        return store

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open a federation that was begun.

        Raises:
            ToolkitError: There is none, or what is there is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            raise ToolkitError(
                f"{folder} holds no federation to resume", "Start it without --resume"
            )
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            if state["version"] != _VERSION or not is_sealed(state):
                raise ValueError
            store = cls(folder, state)
            if sha256_file(store.adapter / ADAPTER) != state["adapter_sha256"]:
                raise ValueError
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ToolkitError(
                f"the federation in {folder} is damaged, or of another version",
                "Start another one; its `adapter` may be what this one came to",
            ) from error
        store._tidy()
        return store

    @property
    def id(self) -> str:
        return str(self._state["id"])

    @property
    def round(self) -> int:
        return int(self._state["round"])

    @property
    def final(self) -> dict[str, Any] | None:
        final: dict[str, Any] | None = self._state["final"]
        return final

    @property
    def adapter(self) -> Path:
        """Folder of the adapter after the last finished round."""
        return self._of(self.round)

    def discard(self) -> None:
        """Remove what was written of a federation that did not begin."""
        for name in (FILE, ADAPTER, CONFIG):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "rounds", ignore_errors=True)
        with suppress(OSError):  # somebody put something there
            self.folder.rmdir()

    def fact(self, name: str) -> Any:
        """Return what was said when the federation began."""
        return self._state[name]

    def begin_with(self, tensors: Iterator[tuple[str, Any]], config: Path) -> None:
        """Keep the adapter that the first round begins with; names are those that peft has."""
        self._write_round(0, tensors, config, {})
        self._commit(round=0)

    def scratch(self) -> Path:
        """Return an empty folder for what a round's nodes hand back."""
        path = self.folder / "replies"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def draft(self, number: int, tensors: Iterator[tuple[str, Any]]) -> Path:
        """Write a round's adapter without it counting, and return its folder."""
        self._write_round(number, tensors, self.adapter / CONFIG, {})
        return self._of(number)

    def finish(self, number: int, record: Mapping[str, Any]) -> None:
        """Let a round that was drafted count, and say what it came to."""
        _write_json(self._of(number) / ROUND, record)
        self._commit(round=number)
        self._tidy()

    def end(self, final: Mapping[str, Any]) -> None:
        """Note what was measured after the last round."""
        self._commit(final=dict(final))

    def go_on(self, settings: FederationSettings) -> None:
        """Take over settings that were changed for the rounds to come."""
        self._commit(settings=settings.to_json(), final=None)

    def records(self) -> list[dict[str, Any]]:
        """Return what every finished round came to."""
        paths = [self._of(number) / ROUND for number in range(1, self.round + 1)]
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def _of(self, number: int) -> Path:
        return self.folder / "rounds" / f"{number:04d}"

    def _write_round(
        self, number: int, tensors: Iterator[tuple[str, Any]], config: Path, record: Any
    ) -> None:
        named = {name: np.ascontiguousarray(values) for name, values in tensors}
        with atomic_directory(self._of(number)) as folder:
            save_file(named, folder / ADAPTER, metadata={"format": "pt"})
            shutil.copyfile(config, folder / CONFIG)

    def _commit(self, **changes: Any) -> None:
        self._state = {**self._state, **changes}
        self._state["adapter_sha256"] = sha256_file(self.adapter / ADAPTER)
        _write_json(self.folder / FILE, seal(self._state))

    def _tidy(self) -> None:
        """Put the adapter that counts where others look for it, and remove what counts no more."""
        for name in (ADAPTER, CONFIG):
            with atomic_file(self.folder / name) as file:
                file.write((self.adapter / name).read_bytes())
        for folder in (self.folder / "rounds").iterdir():
            if not folder.name.isdigit() or int(folder.name) > self.round:
                shutil.rmtree(folder)
            elif int(folder.name) < self.round:
                for name in (ADAPTER, CONFIG):
                    (folder / name).unlink(missing_ok=True)
                if folder.name == self._of(0).name:  # which has no record
                    shutil.rmtree(folder)


def new_id() -> str:
    """Return a word that no other federation has."""
    return secrets.token_hex(4)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_file(path, "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
