"""A bundle as one file, for the app's import: a zip of its directory, nothing compressed."""

import errno
import os
import zipfile
from pathlib import Path

from toolkit.bundle import manifest
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.output import check_space
from toolkit.errors import ToolkitError
from toolkit.files import atomic_file


def write_archive(bundle: Bundle, target: Path) -> Path:
    """Write `target`, complete or not at all; what was there is replaced.

    Its entries are NAME/FILE with NAME the directory's, the manifest first: who reads the zip as a
    stream knows sizes and hashes before the files come. Weights do not become smaller, so entries
    are stored as they are. The same bundle gives the same bytes.

    Raises:
        ToolkitError: The disk is full, or cannot be written to.
    """
    files = [manifest.NAME, *sorted(bundle.manifest["files"])]
    size = sum((bundle.path / name).stat().st_size for name in files)
    check_space(target, size, "zip")
    folder = bundle.path.absolute().name
    try:
        with atomic_file(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name in files:
                entry = zipfile.ZipInfo(f"{folder}/{name}")
                entry.external_attr = 0o644 << 16
                entry.file_size = (bundle.path / name).stat().st_size
                with (bundle.path / name).open("rb") as source, archive.open(entry, "w") as out:
                    while chunk := source.read(1 << 20):
                        out.write(chunk)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise ToolkitError(
            f"Cannot write {target}: {os.strerror(error.errno or 0)}",
            "Free some space or choose another output",
        ) from error
    return target
