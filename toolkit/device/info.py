"""What a device says about itself, read with one command and parsed without trust."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from toolkit.device import parsers
from toolkit.device.shell import quote

_SEPARATOR = "@@toolkit"
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True)
class DeviceInfo:
    """A device's properties: memory in KiB, free space and page size in bytes, None where it does
    not say.
    """

    device: str
    kind: str
    model: str
    abi: str
    release: str
    sdk: int | None
    kernel: str
    cores: int | None
    page_size: int | None
    memory_total_kib: int | None
    memory_available_kib: int | None
    free_bytes: int | None
    battery: parsers.Battery | None

    def to_json(self) -> dict[str, Any]:
        """Return the properties as JSON values."""
        return asdict(self)


def info_command(root: str) -> str:
    """Return the command whose output `parse_info` reads; tools a device lacks leave their section
    empty.
    """
    parts = {
        "getprop": "getprop",
        "machine": "uname -m",
        "kernel": "uname -r",
        "os": "cat /etc/os-release",
        "product": "cat /sys/devices/virtual/dmi/id/product_name",
        "meminfo": "cat /proc/meminfo",
        "page": "getconf PAGESIZE || grep -m 1 KernelPageSize /proc/self/smaps",
        "cores": "nproc",
        "df": f"df -k {quote(root)} || df -k {quote(root.rsplit('/', 1)[0] or '/')}",
        "battery": "dumpsys battery",
    }
    lines = [
        f"echo {quote(_SEPARATOR)} {name}; ({part}) 2>/dev/null" for name, part in parts.items()
    ]
    return "; ".join(lines) + "; true"


def parse_info(text: str, *, device: str, kind: str) -> DeviceInfo:
    """Build a DeviceInfo from the output of `info_command`."""
    sections = parsers.parse_sections(text, _SEPARATOR)
    properties = parsers.parse_getprop(sections.get("getprop", ""))
    memory = parsers.parse_meminfo(sections.get("meminfo", ""))
    cores = sections.get("cores", "").strip()
    sdk = properties.get("ro.build.version.sdk", "")
    machine = parsers.parse_machine(sections.get("machine", "")) or "unknown"
    return DeviceInfo(
        device=device,
        kind=kind,
        model=_clean(_model(properties, sections)),
        # A 64-bit kernel may run 32-bit userland, so Android's own word counts more than the
        # kernel's.
        abi=_clean(properties.get("ro.product.cpu.abi") or machine),
        release=_clean(_release(properties, sections)),
        sdk=int(sdk) if re.fullmatch(r"\d{1,4}", sdk) else None,
        kernel=_clean(sections.get("kernel", "")),
        cores=int(cores) if re.fullmatch(r"\d{1,4}", cores) else None,
        page_size=parsers.parse_page_size(sections.get("page", "")),
        memory_total_kib=memory.get("MemTotal"),
        memory_available_kib=memory.get("MemAvailable"),
        free_bytes=parsers.parse_df(sections.get("df", "")),
        battery=parsers.parse_battery(sections.get("battery", "")),
    )


def _model(properties: dict[str, str], sections: dict[str, str]) -> str:
    if model := properties.get("ro.product.model"):
        maker = properties.get("ro.product.manufacturer", "")
        return model if model.lower().startswith(maker.lower()) else f"{maker} {model}"
    return sections.get("product", "").strip() or "Linux machine"


def _release(properties: dict[str, str], sections: dict[str, str]) -> str:
    if release := properties.get("ro.build.version.release"):
        return f"Android {release}"
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', sections.get("os", ""), re.MULTILINE)
    return match.group(1) if match else "Linux"


def _clean(text: str) -> str:
    return _UNPRINTABLE.sub("?", text.strip())[:80]
