"""Rows that are ready, and the directory that they are written to: data.json and token files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.data.fingerprint import DATA_FORMAT_VERSION
from toolkit.data.samples import Rows
from toolkit.data.template import FILE as TEMPLATE_FILE
from toolkit.data.template import ChatTemplate
from toolkit.errors import ToolkitError
from toolkit.files import atomic_directory, atomic_file, sha256_file
from toolkit.sealed_json import seal


@dataclass(frozen=True)
class Prepared:
    """Data of which nothing is written yet.

    Attributes:
        rows: By part, "train" and perhaps "validation".
        sources: Where the documents of every row came from, by part.
        report: What data.json says, but for the files.
        template: The chat template that took the place of the tokenizer's own.
        left_out: Documents without a row, a line for each: where it is, and why.
    """

    rows: dict[str, Rows]
    sources: dict[str, list[list[str]]]
    report: dict[str, Any]
    template: ChatTemplate | None = None
    left_out: Sequence[str] = ()

    def write(self, out: Path) -> dict[str, Any]:
        """Write the data directory `out` and return what data.json says.

        Raises:
            ToolkitError: There is something else.
        """
        from toolkit.data.dataset import write_rows

        check_target(out)
        with atomic_directory(out) as folder:
            files = {}
            for part, values in self.rows.items():
                path = folder / f"{part}.ptd"
                write_rows(path, values, self.report["tokenizer"])
                files[path.name] = _entry(path)
            if self.template is not None:
                path = folder / TEMPLATE_FILE
                path.write_bytes(self.template.text.encode())
                files[path.name] = _entry(path)
            content = seal({"version": DATA_FORMAT_VERSION, **self.report, "files": files})
            with atomic_file(folder / "data.json", "w") as file:
                file.write(json.dumps(content, indent=2) + "\n")
        return content


def check_target(out: Path) -> None:
    """Raise unless `out` is free or holds an older data set, which may be replaced."""
    if not out.exists() or (out / "data.json").is_file():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise ToolkitError(f"{out} exists and is not a data set", "Choose another -o")


def _entry(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_file(path), "bytes": path.stat().st_size}
