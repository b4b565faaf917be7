"""Runs of an app that `run-as` cannot look into: the app exports them to Downloads, from where they
are fetched. The archive is not trusted: names come from a list here and sizes have limits.
"""

import re
import shutil
import zipfile
from pathlib import Path

from toolkit.device.app import ask
from toolkit.device.base import Device
from toolkit.device.fetch import (
    RUN_FILES,
    Progress,
    Pulled,
    fetch_file,
    install_files,
    prepare_partial,
)
from toolkit.device.layout import check_name
from toolkit.device.same_run import check_target, identity_of
from toolkit.errors import ToolkitError

DOWNLOADS = "/sdcard/Download"
_EXPORT_SECONDS = 180.0
_ARCHIVE = "export.zip"
_LARGEST = 8 << 30


def pull_export(
    phone: Device, run: str, target: Path, progress: Progress = lambda name, done, total: None
) -> Pulled:
    """Let the app export a run, and bring it to the folder `target`.

    Raises:
        ToolkitError: The app refuses, or what it wrote is no export of this run.
    """
    check_target(target, None)
    answer = ask(phone, "EXPORT", {"run": check_name(run, "run")}, _EXPORT_SECONDS)
    remote = f"{DOWNLOADS}/{export_name(answer.file, run)}"
    entry = phone.stat(remote)
    if entry is None or entry.kind != "file" or entry.size > _LARGEST:
        raise ToolkitError(
            f"{remote} is not on device {phone.spec}, though the app says that it wrote it",
            "Look into Downloads on the phone",
        )
    partial = target.parent / f".{target.name}.partial"
    prepare_partial(partial)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(answer.file, done, entry.size)

    fetch_file(phone, remote, partial / _ARCHIVE, entry.size, advance)
    pulled = Pulled(files=unpack(partial / _ARCHIVE, run, partial))
    (partial / _ARCHIVE).unlink()
    check_target(target, identity_of(partial))
    install_files(partial, target, list(pulled.files))
    phone.shell(f"rm -f '{remote}'")  # Made for this; `export_name` leaves nothing to quote.
    return pulled


def export_name(name: str, run: str) -> str:
    """Return the file name that the app gave if it is one for this run, as Android numbers them."""
    if not re.fullmatch(re.escape(run) + r"( \(\d{1,4}\))?\.zip", name):
        raise ToolkitError(
            f"the app names its export {name[:80]!r}", "Install the app's newest build"
        )
    return name


def unpack(archive: Path, run: str, folder: Path) -> dict[str, int]:
    """Unpack an export into a folder; return the sizes of the files by name.

    Raises:
        ToolkitError: It is damaged, or no export of this run.
    """
    sizes: dict[str, int] = {}
    try:
        with zipfile.ZipFile(archive) as source:
            entries = {info.filename: info for info in source.infolist()}
            for name, limit in RUN_FILES.items():
                info = entries.get(f"{run}/{name}")
                if info is None:
                    continue
                if info.file_size > limit:
                    raise ToolkitError(f"{name} of the export has {info.file_size} bytes", "")
                with source.open(info) as stream, (folder / name).open("wb") as sink:
                    shutil.copyfileobj(stream, sink)
                sizes[name] = info.file_size
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ToolkitError(f"the export of run {run!r} is damaged: {error}", "Try again") from error
    if not sizes:
        raise ToolkitError(f"the export has no files of run {run!r}", "Try again")
    return sizes
