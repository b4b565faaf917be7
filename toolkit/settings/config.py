"""Config files of runs: YAML, a key for every flag of `toolkit train` that sets something."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from toolkit.errors import ToolkitError
from toolkit.files import atomic_file
from toolkit.sealed_json import CHECKSUM
from toolkit.settings.declaration import Setting, Value, by_flag, help_text
from toolkit.settings.places import PLACES
from toolkit.settings.training import FLAGS, SETTINGS, TrainSettings

RUN_OWN = ("name", "id", "bundle-sha256", "data-sha256", CHECKSUM)
"""What a run's settings.json says of the run itself; a run that repeats it has its own."""


class Words(yaml.SafeLoader):
    """Leaves words and numbers as they are written, but for nulls, and takes no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(f"{twice[0]!r} is there twice")
        return super().construct_mapping(node, deep)


Words.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag.endswith(":null")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_config(path: Path) -> dict[str, Value]:
    """Return what a config file says, by flag; a run's settings.json is one, too.

    Raises:
        ToolkitError: It cannot be read, or a key is unknown (the nearest is named) or wrong.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Words)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ToolkitError(f"{path} cannot be read: {reason}", "Check the path") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())[:300]
        raise ToolkitError(f"{path} is no YAML: {reason}", "Write lines like `lr: 5e-4`") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ToolkitError(f"{path} holds no settings", "Write lines like `lr: 5e-4`")
    given = {key: value for key, value in content.items() if key not in RUN_OWN}
    found = by_flag(given, FLAGS.values(), str(path))
    if isinstance(adapter := found.get("adapter"), str):
        found["adapter"] = str(Path(adapter).expanduser())  # as a shell does it for the flag
    return {flag: value for flag, value in found.items() if value is not None}


def save_config(path: Path, given: Mapping[str, Value]) -> None:
    """Write the settings in effect for what was given by flag, every other one as a comment.

    Raises:
        ToolkitError: Two settings contradict each other.
    """
    own = {known.flag: given[known.flag] for known in SETTINGS if known.flag in given}
    values = {**given, **TrainSettings.of(own).effective().flags()}
    lines = ["# Settings of `toolkit train --config`; flags win over what is said here."]
    for known in (*PLACES, *SETTINGS):
        lines += ["", f"# {help_text(known)}", _line(known, values.get(known.flag))]
    with atomic_file(path, "w") as file:
        file.write("\n".join(lines) + "\n")


def _line(known: Setting, value: Value) -> str:
    if value is None:
        return f"# {known.flag}:"
    line: str = yaml.safe_dump({known.flag: value}, width=1000, allow_unicode=True)
    return line.rstrip()
