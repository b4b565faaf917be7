"""Pure parsers of what a device prints. Its output is untrusted: what does not fit is left out or
None.

Formats: Android's toybox and mksh, and GNU coreutils where they differ. Samples of both are in the
tests.
"""

import json
import re
import stat as stat_bits
from dataclasses import dataclass
from typing import Any, Literal

_PROPERTY = re.compile(r"^\[([^\]]+)\]: \[(.*)\]$")
_SHA256 = re.compile(r"^\\?([0-9a-f]{64}) [ *](.+)$")
_MEMINFO = re.compile(r"^(\w+(?:\(\w+\))?):\s+(\d+) kB$")
_STAT = re.compile(r"^([0-9a-f]{1,8}) (\d{1,19}) (\d{1,19}) (.+)$")
_KERNEL_PAGE = re.compile(r"^KernelPageSize:\s+(\d+) kB$")

# What the kernel calls a machine -> what Android calls the ABI.
_ABIS = {
    "aarch64": "arm64-v8a",
    "arm64": "arm64-v8a",
    "x86_64": "x86_64",
    "armv7l": "armeabi-v7a",
    "armv8l": "armeabi-v7a",
    "i686": "x86",
}

Kind = Literal["file", "directory", "symlink", "other"]


@dataclass(frozen=True)
class FileStat:
    """One file on the device: absolute path, kind, size in bytes, modification time in Unix
    seconds.
    """

    path: str
    kind: Kind
    size: int
    modified: int

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Battery:
    """Battery of a phone: level in percent, temperature in degrees Celsius, whether it charges."""

    level: int | None
    celsius: float | None
    charging: bool | None


def parse_object(line: bytes | str) -> dict[str, Any] | None:
    """Parse a line that holds a JSON object."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def printable(text: str) -> str:
    """Return at most 500 characters of a text, with ? for those that cannot be printed."""
    return "".join(char if char.isprintable() else "?" for char in text)[:500]


def parse_getprop(text: str) -> dict[str, str]:
    """Parse `getprop`: lines `[name]: [value]`."""
    matches = (_PROPERTY.match(line.rstrip("\r")) for line in text.splitlines())
    return {match.group(1): match.group(2) for match in matches if match}


def parse_df(text: str) -> int | None:
    """Return the available bytes from `df -k PATH`, by the column headed Available or Avail.

    A long device name may push its figures to the next line, so all words after the header count as
    one row.
    """
    lines = text.splitlines()
    if len(lines) < 2:
        return None
    header = lines[0].replace("Mounted on", "Mounted").split()
    column = next((i for i, name in enumerate(header) if name in ("Available", "Avail")), None)
    words = " ".join(lines[1:]).split()
    if column is None or len(words) <= column or not words[column].isdecimal():
        return None
    return int(words[column]) * 1024


def parse_meminfo(text: str) -> dict[str, int]:
    """Parse /proc/meminfo into KiB by name."""
    matches = (_MEMINFO.match(line.strip()) for line in text.splitlines())
    return {match.group(1): int(match.group(2)) for match in matches if match}


def parse_stat(text: str) -> list[FileStat]:
    """Parse lines of `stat -c '%f %s %Y %n'`: mode in hexadecimal, size, modified, path."""
    matches = (_STAT.match(line.rstrip("\r")) for line in text.splitlines())
    return [
        FileStat(
            match.group(4), _kind(int(match.group(1), 16)), int(match.group(2)), int(match.group(3))
        )
        for match in matches
        if match
    ]


def _kind(mode: int) -> Kind:
    if stat_bits.S_ISREG(mode):
        return "file"
    if stat_bits.S_ISDIR(mode):
        return "directory"
    if stat_bits.S_ISLNK(mode):
        return "symlink"
    return "other"


def parse_sha256sum(text: str) -> dict[str, str]:
    """Parse `sha256sum FILE...` into digest by path. Error lines of missing files are left out."""
    matches = (_SHA256.match(line.rstrip("\r")) for line in text.splitlines())
    return {match.group(2): match.group(1) for match in matches if match}


def parse_machine(text: str) -> str | None:
    """Return the Android name of the ABI for `uname -m`, or None if it is unknown."""
    return _ABIS.get(text.strip())


def parse_page_size(text: str) -> int | None:
    """Return the page size in bytes from `getconf PAGESIZE` or a KernelPageSize line of
    /proc/self/smaps.
    """
    for line in text.splitlines():
        line = line.strip()
        if line.isdecimal() and int(line) >= 4096:
            return int(line)
        if match := _KERNEL_PAGE.match(line):
            return int(match.group(1)) * 1024
    return None


def parse_battery(text: str) -> Battery | None:
    """Parse `dumpsys battery`: level, temperature in tenths of a degree, status (2 charging, 5
    full).
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.strip().partition(": ")
        if colon:
            values.setdefault(name, value.strip())
    level = _integer(values.get("level"))
    temperature = _integer(values.get("temperature"))
    status = _integer(values.get("status"))
    if level is None and temperature is None:
        return None
    celsius = None if temperature is None else temperature / 10
    return Battery(level, celsius, None if status is None else status in (2, 5))


def _integer(text: str | None) -> int | None:
    if text is None or not re.fullmatch(r"-?\d{1,9}", text):
        return None
    return int(text)


def parse_sections(text: str, separator: str) -> dict[str, str]:
    """Split output into sections that begin with lines `SEPARATOR name`."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith(separator + " "):
            current = sections.setdefault(line[len(separator) + 1 :].strip(), [])
        else:
            current.append(line)
    return {name: "\n".join(lines) for name, lines in sections.items()}
