"""Checks the finished APK: what it asks for, what it opens to others, what it is built for.

Reads the manifest inside the APK, not the one in the sources. Prints `aapt2 dump badging`.

    python tools/android/check_apk.py [APK]
"""

import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
AAPT2 = ROOT / ".cache/android/aapt2"
APK = ROOT / "build/android/toolkit-trainer-debug.apk"
PERMISSIONS = {
    "android.permission.FOREGROUND_SERVICE",
    "android.permission.FOREGROUND_SERVICE_DATA_SYNC",
    "android.permission.FOREGROUND_SERVICE_SPECIAL_USE",
    "android.permission.POST_NOTIFICATIONS",
    "android.permission.RECEIVE_BOOT_COMPLETED",
    "android.permission.REQUEST_IGNORE_BATTERY_OPTIMIZATIONS",
    "android.permission.WAKE_LOCK",
}
EXPORTED = {
    "dev.toolkit.trainer.ui.ImportActivity": None,
    "dev.toolkit.trainer.ui.MainActivity": None,
    "dev.toolkit.trainer.ui.TextActivity": None,
    "dev.toolkit.trainer.service.AutomationService": "android.permission.DUMP",
}
"""Components that other apps can reach, and the permission that guards them."""
BRIDGE = tuple(
    f"dev.toolkit.trainer.engine.{name}"
    for name in (
        "NativeTrainer",
        "NativeGenerator",
        "EngineException",
        "LineListener",
        "TokenListener",
    )
)
"""Classes that libtoolkit_jni.so looks up."""
SAMPLE = ("assets/sample.zip", "assets/sample.txt")
LICENCES = ("assets/licences/ExecuTorch.txt", "assets/licences/GNU C library.txt")
ENGINE = ("libtrainer.so", "libexecutorch.so", "libc.6.so")
PAGE = 16 << 10
"""Of newer arm64 phones; the x86-64 emulators that the engine is for have pages of 4 KiB."""
LARGEST_APP, LARGEST_WITH_ENGINE = 300_000, 8_000_000


def main() -> int:
    """Print badging; 1 if something is not as stated."""
    apk = Path(sys.argv[1]) if len(sys.argv) > 1 else APK
    badging = dump("badging", apk)
    tree = dump("xmltree", "--file", "AndroidManifest.xml", apk)
    print(badging)
    problems = [*check_badging(badging), *check_components(components(tree))]
    problems += [*check_unpacking(tree, apk), *check_files(apk), *check_sizes(apk)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not problems:
        print(f"{apk}: {apk.stat().st_size / 1e6:.2f} MB, manifest as stated")
    return int(bool(problems))


def check_badging(badging: str) -> list[str]:
    """Permissions and versions."""
    problems = []
    asked = set(re.findall(r"^uses-permission: name='([^']+)'", badging, re.M))
    if asked != PERMISSIONS:
        problems.append(f"permissions differ: {sorted(asked ^ PERMISSIONS)}")
    wanted = ("package: name='dev.toolkit.trainer'", "targetSdkVersion:'36'")
    problems += [f"badging lacks {words}" for words in wanted if words not in badging]
    if not re.search(r"^(sdkVersion|minSdkVersion):'28'", badging, re.M):
        problems.append("the lowest Android version is not 9")
    return problems


def components(tree: str) -> dict[str, dict[str, str]]:
    """Attributes of every component, by name, from `aapt2 dump xmltree`."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] | None = None
    for line in tree.splitlines():
        element = re.match(r"\s*E: (\S+)", line)
        if element:
            kinds = ("activity", "activity-alias", "service", "receiver", "provider")
            current = {} if element[1] in kinds else None
        attribute = re.match(r"\s*A: \S*?(\w+)\(0x\w+\)=(?:\"([^\"]*)\"|(\S+))", line)
        if attribute and current is not None:
            current[attribute[1]] = attribute[2] if attribute[2] is not None else attribute[3]
            if attribute[1] == "name":
                found[qualified(current["name"])] = current
    return found


def qualified(name: str) -> str:
    """The full class name of a component."""
    return f"dev.toolkit.trainer{name}" if name.startswith(".") else name


def check_components(found: dict[str, dict[str, str]]) -> list[str]:
    """Only the stated components are exported, with their guards; every one says whether it is."""
    problems = [f"{name} does not say exported" for name, a in found.items() if "exported" not in a]
    exported = {
        name: a.get("permission") for name, a in found.items() if a.get("exported") == "true"
    }
    if exported != EXPORTED:
        problems.append(f"exported components are {exported}")
    return problems


def check_unpacking(tree: str, apk: Path) -> list[str]:
    """The installer unpacks the engine, whose files are there for both kinds of processors."""
    problems = []
    if not re.search(r"extractNativeLibs\(0x\w+\)=true", tree):
        problems.append("the manifest does not have the engine unpacked (extractNativeLibs)")
    with zipfile.ZipFile(apk) as archive:
        held = set(archive.namelist())
        problems += [f"{name} is missing" for name in (*SAMPLE, *LICENCES) if name not in held]
        for abi in ("arm64-v8a", "x86_64"):
            lost = [name for name in ENGINE if f"lib/{abi}/{name}" not in held]
            problems += [f"lib/{abi}/{name} is missing" for name in lost]
        for name in sorted(held):
            if name.startswith("lib/arm64-v8a/") and smallest_page(archive.read(name)) < PAGE:
                problems.append(f"{name} is not aligned to pages of 16 KiB")
    return problems


def smallest_page(library: bytes) -> int:
    """Return the smallest alignment of an ELF-64 file's LOAD segments in bytes."""
    offset = struct.unpack_from("<Q", library, 32)[0]
    size, count = struct.unpack_from("<HH", library, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", library, offset + i * size) for i in range(count)]
    return min(header[7] for header in headers if header[0] == 1)


def check_sizes(apk: Path) -> list[str]:
    """The APK is small, without engine and sample and with them for one processor."""
    with zipfile.ZipFile(apk) as archive:
        sizes = {info.filename: info.compress_size for info in archive.infolist()}
    app = sum(size for name, size in sizes.items() if not name.startswith(("lib/", "assets/")))
    arm64 = app + sum(
        size for name, size in sizes.items() if name.startswith(("lib/arm64-v8a/", "assets/"))
    )
    print(f"without engine and sample {app / 1e6:.2f} MB, with them for arm64 {arm64 / 1e6:.2f} MB")
    bars = [
        ("without engine and sample", app, LARGEST_APP),
        ("with engine and sample", arm64, LARGEST_WITH_ENGINE),
    ]
    return [f"{what} it has {size} bytes" for what, size, most in bars if size > most]


def check_files(apk: Path) -> list[str]:
    """What the bridge and the manifest name survived shrinking."""
    with zipfile.ZipFile(apk) as archive:
        if "classes.dex" not in archive.namelist():
            return ["there is no classes.dex"]
        dex = archive.read("classes.dex")
    lost = [
        name for name in (*BRIDGE, *EXPORTED) if f"L{name.replace('.', '/')};".encode() not in dex
    ]
    return [f"{name} is not in classes.dex" for name in lost]


def dump(*arguments: object) -> str:
    """Run `aapt2 dump`."""
    command = [str(AAPT2), "dump", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
