"""Where the compiled runtime is: the operator library and the folder to deploy."""

import os
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from toolkit.errors import ToolkitError

OPERATORS_LIBRARY = "libtoolkit_operators.so"
TRAINER = "trainer"
_MACHINES = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "arm64-v8a", "arm64": "arm64-v8a"}


def host_abi() -> str:
    """Return this machine's Android ABI name, e.g. ``x86_64``."""
    machine = platform.machine()
    return _MACHINES.get(machine, machine)


def native_directories() -> Iterator[Path]:
    """Yield the folders that may hold this machine's build, first choice first.

    ``TOOLKIT_NATIVE_DIR`` alone when it is set; else the installed package (which an editable
    install keeps apart from its sources), then ``build/native`` of the source tree.
    """
    given = os.environ.get("TOOLKIT_NATIVE_DIR")
    if given:
        yield Path(given)
        return
    package = Path(__file__).resolve().parent
    yield package / "lib"
    yield Path(sysconfig.get_path("platlib")) / "toolkit" / "runtime" / "lib"
    yield package.parent.parent / "build" / "native"


def native_directory(file: str = OPERATORS_LIBRARY) -> Path:
    """Return the first of `native_directories` that has the file.

    Raises:
        ToolkitError: None has it.
    """
    searched = list(native_directories())
    for directory in searched:
        if (directory / file).is_file():
            return directory
    raise ToolkitError(
        f"the compiled runtime is missing: no {file} in {', '.join(map(str, searched))}",
        "Build it with `pip install --no-build-isolation -e .`, "
        "or point TOOLKIT_NATIVE_DIR at a build",
    )


def operators_library() -> Path:
    """Return the operator library for ExecuTorch's Python runtime.

    Raises:
        ToolkitError: It was not built.
    """
    return native_directory(OPERATORS_LIBRARY) / OPERATORS_LIBRARY


def runtime_directory(abi: str) -> Path:
    """Return the folder with this machine's trainer, to run here or to deploy to a device like it.

    Args:
        abi: Android's name of the architecture, e.g. ``x86_64``; must be this machine's.

    Raises:
        ToolkitError: The trainer was not built, or the ABI is another machine's.
    """
    if abi != host_abi():
        raise ToolkitError(
            f"this machine's runtime is for {host_abi()}, not {abi}",
            f"Build the other with `toolkit runtime build --abi {abi}`",
        )
    return native_directory(TRAINER)
