"""Fetch llama.cpp's libraries from npm into .cache/llama_cpp; does nothing when they are there.

Tests load what the toolkit writes for llama.cpp with llama.cpp itself. The package
@node-llama-cpp/linux-x64 (MIT) brings libllama and libggml for every generation of x86-64; nothing
of it is installed or run by node.
"""

import hashlib
import platform
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ROOT / ".cache" / "llama_cpp"
PACKAGE = "@node-llama-cpp/linux-x64@3.22.1"
SHA256 = "0d953e1503d5ab4608d8ed5b739132308c81ac05ffeb760d2a7f30e08a9f90e0"
_FOLDER = PurePosixPath("package/bins/linux-x64")
_DONE = ".sha256"


def main() -> int:
    """Fetch what is missing; return the exit code."""
    if platform.machine() != "x86_64":
        print("no llama.cpp for this machine: its tests are left out")
        return 0
    if complete():
        return 0
    try:
        with tempfile.TemporaryDirectory() as folder:
            archive = _download(Path(folder))
            _extract(archive)
    except (OSError, RuntimeError, tarfile.TarError, subprocess.CalledProcessError) as error:
        print(f"error: llama.cpp: {error}", file=sys.stderr)
        return 1
    print(f"llama.cpp is in {LIBRARIES.relative_to(ROOT)}")
    return 0


def complete() -> bool:
    """Whether all libraries of this version are there."""
    done = LIBRARIES / _DONE
    return done.is_file() and done.read_text() == SHA256


def _download(folder: Path) -> Path:
    print(f"downloading {PACKAGE}", flush=True)
    command = ["npm", "pack", "--silent", "--ignore-scripts", PACKAGE]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    archive = next(folder.glob("*.tgz"))
    with archive.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != SHA256:
            raise RuntimeError(f"{PACKAGE} came with another SHA-256 than expected")
    return archive


def _extract(archive: Path) -> None:
    LIBRARIES.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            path = PurePosixPath(member.name)
            if path.parent != _FOLDER or path.suffix != ".so" or not member.isfile():
                continue
            source = tar.extractfile(member)
            assert source is not None
            part = LIBRARIES / f".{path.name}.part"
            part.write_bytes(source.read())
            part.replace(LIBRARIES / path.name)
    (LIBRARIES / _DONE).write_text(SHA256)


if __name__ == "__main__":
    sys.exit(main())
