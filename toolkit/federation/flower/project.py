"""Writes the Flower app of a federation: a folder with the pyproject.toml that `flwr run` takes.

ServerApp and ClientApp are those of the installed toolkit, so there is nothing to install for a run
and the file is all that is sent. Its run configuration is a federation's file (`toolkit federate
--help`), with `out` and `tensorboard`, folders to write on the machine of the SuperLink, and
`resume`; `nodes` is JSON, and of a simulation alone. Needs no Flower.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.errors import ToolkitError
from toolkit.federation.settings import FederationSettings, federation_of
from toolkit.files import atomic_file

_HEAD = """\
# A Flower app by `toolkit federate --flower`: `flwr run FOLDER SUPERLINK`; a key of the
# configuration is changed for a run by -c 'rounds=20 train.lr=1e-3'.
[project]
name = "{name}"
version = "1.0.0"
description = "A federation of devices that train one LoRA adapter"
dependencies = []

[tool.flwr.app]
publisher = "toolkit"

[tool.flwr.app.components]
serverapp = "toolkit.federation.flower.server:app"
clientapp = "toolkit.federation.flower.client:app"

[tool.flwr.app.config]
"""


class Asked(NamedTuple):
    """What a run configuration asks for: the federation, its folder, whether to go on, and the
    folder for TensorBoard, None for none.
    """

    settings: FederationSettings
    out: Path
    resume: bool
    tensorboard: str | None


def write_project(
    settings: FederationSettings, out: Path, folder: Path, tensorboard: Path | None = None
) -> None:
    """Write a federation's app.

    Args:
        out: Folder that the ServerApp writes, on the machine of the SuperLink.
        folder: The app's, new or with a pyproject.toml of this kind.
        tensorboard: Folder for TensorBoard on that machine; None: none.

    Raises:
        ToolkitError: The folder has another pyproject.toml.
    """
    path = folder / "pyproject.toml"
    if path.exists() and "toolkit.federation.flower" not in path.read_text(encoding="utf-8"):
        raise ToolkitError(f"{path} is not a federation's", "Choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    content = settings.to_json()
    nodes, train = content.pop("nodes"), content.pop("train")
    board = str(tensorboard.absolute()) if tensorboard is not None else ""
    lines = [("out", str(out.absolute())), ("tensorboard", board), ("resume", False)]
    lines += [("nodes", json.dumps(nodes))]
    lines += [(key, value) for key, value in content.items() if value is not None]
    name = re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower()).strip("-") or "federation"
    with atomic_file(path, "w") as file:
        file.write(_HEAD.format(name=name))
        file.writelines(f"{key} = {_toml(value)}\n" for key, value in lines)
        file.write("\n[tool.flwr.app.config.train]\n")
        file.writelines(f"{k} = {_toml(v)}\n" for k, v in train.items() if v is not None)


def _toml(value: Any) -> str:
    """Return a value as TOML, which for text, numbers and truth is JSON's way."""
    return json.dumps(value)


def asked(config: Mapping[str, Any]) -> Asked:
    """Return what a run configuration asks for.

    Raises:
        ToolkitError: A key is unknown or wrong.
    """
    content: dict[str, Any] = {}
    for key, value in config.items():
        inner = content
        *tables, last = key.split(".")
        for table in tables:
            inner = inner.setdefault(table, {})
        inner[last] = value
    out, resume = content.pop("out", ""), content.pop("resume", False)
    board = str(content.pop("tensorboard", "")) or None
    if not out:
        raise ToolkitError("the run configuration has no `out`", "Name the folder to write")
    try:
        content["nodes"] = json.loads(content.get("nodes") or "[]")
    except ValueError as error:
        raise ToolkitError(f"`nodes` of the run configuration is no JSON ({error})") from error
    settings = federation_of(content, Path("run configuration"))
    return Asked(settings, Path(str(out)), bool(resume), board)
