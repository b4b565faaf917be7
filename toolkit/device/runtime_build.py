"""Building the self-contained runtime for phones without an NDK.

The trainer is compiled with a GNU compiler against the ExecuTorch wheel of the device's
architecture, and shipped with the dynamic loader and C library it was linked with, so that nothing
of the phone's userland is needed:
`./ld-linux-aarch64.so.1 --library-path . ./trainer`.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from toolkit import __version__
from toolkit.errors import ToolkitError
from toolkit.files import atomic_directory, cache_root
from toolkit.runtime import runtime_directory
from toolkit.terminal import may_draw

_NEEDED = re.compile(r"\(NEEDED\).*\[([^\]/]+)\]")
_INTERPRETER = re.compile(r"Requesting program interpreter: [^\]]*/([^\]/]+)\]")
_MINIMUM = re.compile(r"cmake_minimum_required\(VERSION ([\d.]+)")
_VERSION = re.compile(r"version (\d+(?:\.\d+)*)")
_SOURCES = Path(__file__).resolve().parent.parent / "runtime"


@dataclass(frozen=True)
class Target:
    """What building for one ABI takes; `machine` is the kernel's name, `package` Debian's."""

    abi: str
    machine: str
    wheel_platform: str
    prefix: str
    package: str
    toolchain: Path | None


TARGETS = {
    "arm64-v8a": Target(
        "arm64-v8a",
        "aarch64",
        "manylinux_2_28_aarch64",
        "aarch64-linux-gnu-",
        "g++-aarch64-linux-gnu",
        _SOURCES / "cmake/aarch64-linux-gnu.cmake",
    ),
    "x86_64": Target(
        "x86_64",
        "x86_64",
        "manylinux_2_28_x86_64",
        "x86_64-linux-gnu-",
        "g++-x86-64-linux-gnu",
        None,
    ),
}


def built_runtime(abi: str) -> Path:
    """Return where `build` puts the runtime of an ABI; it may not exist yet."""
    return cache_root() / "runtime" / __version__ / target_of(abi).abi


def target_of(abi: str) -> Target:
    """Return the target of an ABI or raise with the list of those that can be built."""
    if abi not in TARGETS:
        raise ToolkitError(
            f"there is no runtime for {abi} devices", f"Supported are {', '.join(TARGETS)}"
        )
    return TARGETS[abi]


def build(abi: str, say: Callable[[str], None] = lambda line: None) -> Path:
    """Compile and collect the runtime for `abi` and return its folder.

    Args:
        abi: "arm64-v8a" or "x86_64".
        say: called with one line for each stage.

    Raises:
        ToolkitError: a compiler, CMake or the ExecuTorch wheel is missing, or compiling failed.
    """
    target = target_of(abi)
    prefix = compiler_prefix(target)
    with _lock():
        return _build(target, prefix, say)


@contextmanager
def _lock() -> Iterator[None]:
    """Let one build at a time use the cache."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "build.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(target: Target, prefix: str, say: Callable[[str], None]) -> Path:
    package = _executorch(target, say)
    trainer = _installed_trainer(target)
    if trainer is None:
        say("Compiling the trainer")
        trainer = _compile(target, package)
    folder = built_runtime(target.abi)
    say("Collecting the libraries it needs")
    with atomic_directory(folder) as staging:
        _collect(prefix, trainer, package / "lib", staging)
    return folder


def _is_native(target: Target) -> bool:
    return platform.machine() == target.machine


def compiler_prefix(target: Target) -> str:
    prefix = "" if _is_native(target) else target.prefix
    if shutil.which(f"{prefix}g++") is None:
        name = "g++" if _is_native(target) else target.package
        raise ToolkitError(
            f"the compiler {prefix}g++ is missing", f"Install it: `apt-get install {name}`"
        )
    return prefix


def _executorch(target: Target, say: Callable[[str], None]) -> Path:
    """Return the `executorch` folder (headers, libraries, CMake files) for a target."""
    if _is_native(target):
        spec = find_spec("executorch")
        assert spec and spec.submodule_search_locations  # toolkit depends on it
        return Path(spec.submodule_search_locations[0])
    release = version("executorch").split("+")[0]
    unpacked = cache_root() / f"executorch-{release}-{target.machine}"
    if not unpacked.exists():
        say(f"Downloading ExecuTorch {release} for {target.machine}")
        wheel = _download(target, release)
        with atomic_directory(unpacked) as staging, zipfile.ZipFile(wheel) as archive:
            archive.extractall(staging)
        wheel.unlink()
    return unpacked / "executorch"


def _download(target: Target, release: str) -> Path:
    folder = cache_root() / "wheels" / target.machine
    folder.mkdir(parents=True, exist_ok=True)
    shown = may_draw()
    command = [sys.executable, "-m", "pip", "download", *([] if shown else ["--quiet"])]
    command += ["--no-deps", "--only-binary=:all:", "--platform", target.wheel_platform]
    command += ["--dest", str(folder), f"executorch=={release}"]
    failure = f"ExecuTorch {release} for {target.machine} could not be downloaded"
    _run(command, failure, shown=shown)
    return next(folder.glob(f"executorch-{release}-*.whl"))


def _installed_trainer(target: Target) -> Path | None:
    """Return this machine's own trainer if the target is of its kind."""
    if not _is_native(target):
        return None
    try:
        return runtime_directory(target.abi) / "trainer"
    except ToolkitError:
        return None


def _compile(target: Target, package: Path) -> Path:
    if not (_SOURCES / "CMakeLists.txt").is_file():
        raise ToolkitError("the runtime's sources are missing", "Reinstall the toolkit package")
    # CMake refuses a build folder made for other paths, so each set of paths has its own.
    work = cache_root() / "build"
    work /= (
        f"{target.abi}-{hashlib.sha256(f'{work}:{_SOURCES}:{package}'.encode()).hexdigest()[:8]}"
    )
    command = [_cmake(), "-S", str(_SOURCES), "-B", str(work)]
    command += ["-G", "Ninja" if shutil.which("ninja", path=_tool_path()) else "Unix Makefiles"]
    command += ["-DCMAKE_BUILD_TYPE=Release", f"-DEXECUTORCH_ROOT={package}"]
    if not _is_native(target):
        command += [f"-DCMAKE_TOOLCHAIN_FILE={target.toolchain}"]
    _run(command, "CMake could not configure the runtime")
    build_command = [_cmake(), "--build", str(work), "--target", "trainer", "--parallel", "2"]
    _run(build_command, f"the runtime could not be compiled for {target.abi}")
    trainers = [
        path for path in work.rglob("trainer") if path.is_file() and os.access(path, os.X_OK)
    ]
    if not trainers:
        raise ToolkitError("compiling made no trainer", f"Remove {work} and try again")
    return max(trainers, key=lambda path: path.stat().st_mtime)


def _collect(prefix: str, trainer: Path, libraries: Path, folder: Path) -> None:
    """Copy the trainer, stripped, with its loader and every library it needs, directly or not."""
    shutil.copy(trainer, folder / "trainer")
    _run([f"{prefix}strip", str(folder / "trainer")], "the trainer could not be stripped")
    headers = _run([f"{prefix}readelf", "-l", str(trainer)], "the trainer could not be read")
    loader = _INTERPRETER.search(headers)
    if loader is None:
        raise ToolkitError("the trainer names no dynamic loader", "Build it as a dynamic program")
    waiting, done = [loader.group(1), *_needed(prefix, trainer)], set()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        source = libraries / name
        if not source.is_file():
            source = Path(_run([f"{prefix}g++", f"-print-file-name={name}"], "no compiler").strip())
        if not source.is_file():
            raise ToolkitError(f"library {name} was not found", "Reinstall the compiler's packages")
        shutil.copy(source.resolve(), folder / name)
        (folder / name).chmod(0o755)
        waiting += _needed(prefix, source)


def _needed(prefix: str, path: Path) -> list[str]:
    return _NEEDED.findall(_run([f"{prefix}readelf", "-d", str(path)], f"{path} cannot be read"))


def _tool_path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _tool(name: str) -> str:
    path = shutil.which(name, path=_tool_path())
    if path is None:
        raise ToolkitError(f"{name} is missing", f"Install it: `pip install {name}`")
    return path


def _cmake() -> str:
    """Return the CMake to use, after checking that it is new enough for the sources."""
    path = _tool("cmake")
    wanted = _MINIMUM.findall((_SOURCES / "CMakeLists.txt").read_text())[0]
    found = _VERSION.search(_run([path, "--version"], "CMake does not run"))
    version = found[1] if found else "of an unknown version"
    if found is None or _numbers(version) < _numbers(wanted):
        raise ToolkitError(
            f"{path} is CMake {version}, the runtime needs {wanted} or newer",
            f"Install it: `pip install 'cmake>={wanted}'`",
        )
    return path


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _run(command: list[str], failure: str, *, shown: bool = False) -> str:
    """Run a command and return its output; `shown` lets it go to standard error instead."""
    environment = {**os.environ, "PATH": _tool_path()}
    output = sys.stderr.fileno() if shown else subprocess.PIPE
    result = subprocess.run(
        command, stdout=output, stderr=subprocess.PIPE, text=True, env=environment, check=False
    )
    if result.returncode:
        lines = f"{result.stderr}\n{result.stdout or ''}".strip().splitlines()
        wanted = [line for line in lines if re.search(r"error", line, re.IGNORECASE)] or lines[-1:]
        detail = f": {wanted[0].strip()[:300]}" if wanted else ""
        raise ToolkitError(f"{failure}{detail}", f"The command was `{' '.join(command)[:300]}`")
    return result.stdout or ""
