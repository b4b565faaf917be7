"""The process's mappings in groups that people know: where memory is that no ledger has."""

from collections.abc import Mapping as Dict
from dataclasses import dataclass

from toolkit.trace.schema import Mapping, Smaps
from toolkit.trace.units import KIB

LIBRARIES = "code of libraries and trainer"
PROGRAMS = "programs, adapters and data"
KERNEL = "pages of the kernel"
OTHER_FILES = "other files"
ALLOCATOR = "allocator"
STACKS = "stacks"
UNNAMED = "anonymous without a name (engine's buffers, stacks of threads)"
BASE = "base weights"
STATE = "adapters and optimizer state on storage"
_ENGINE = "engine: "

_BUFFERS = ("adapters", "optimizer", "gradients", "checkpoints", "arena", "scratch")


@dataclass(frozen=True)
class MappingGroup:
    """Mappings of one kind: resident bytes, and how much of it is anonymous."""

    name: str
    bytes: int
    anonymous: int


@dataclass(frozen=True)
class RestPart:
    """One named part of the peak that the ledger does not have."""

    name: str
    bytes: int


def group_mappings(smaps: list[Smaps]) -> list[MappingGroup]:
    """Return the groups of the last look at the mappings, the largest first."""
    if not smaps:
        return []
    sizes: dict[str, list[int]] = {}
    for entry in smaps[-1].entries:
        size = sizes.setdefault(_group(entry), [0, 0])
        size[0] += entry.rss * KIB
        size[1] += entry.anonymous * KIB
    groups = [MappingGroup(name, *size) for name, size in sizes.items()]
    return sorted(groups, key=lambda group: -group.bytes)


def name_rest(rest: int, ledger: Dict[str, int], groups: list[MappingGroup]) -> list[RestPart]:
    """Return what `rest` bytes beyond the ledger are, as far as the mappings tell, largest first.

    The ledger's runtime is what the process had before it loaded anything: it stands for code
    first, then for the allocator and stacks. What these have beyond it grew later. Anonymous
    memory is set against the buffers that the ledger counts. Page tables are no part of the peak.
    """
    if rest <= 0 or not groups:
        return []
    sizes = {group.name: group.bytes for group in groups}
    runtime = ledger.get("runtime", 0)
    beyond = {}
    for name in (LIBRARIES, PROGRAMS, OTHER_FILES, KERNEL, STACKS, ALLOCATOR):
        size = sizes.get(name, 0)
        covered = min(runtime, size)
        runtime -= covered
        beyond[name] = size - covered
    anonymous = sum(
        group.anonymous
        for group in groups
        if group.name == UNNAMED or group.name.startswith(_ENGINE)
    )
    buffers = sum(ledger.get(name, 0) for name in _BUFFERS) + runtime
    beyond["slack of buffers, stacks of threads"] = max(0, anonymous - buffers)
    parts = []
    for name, size in sorted(beyond.items(), key=lambda item: -item[1]):
        size = min(size, rest)
        rest -= size
        if size:
            parts.append(RestPart(name, size))
    if rest:
        parts.append(RestPart("not there when the mappings were read", rest))
    return parts


def _group(entry: Mapping) -> str:
    name = entry.name
    base = name.removesuffix(" (deleted)").rpartition("/")[2]
    if name.startswith("[anon:toolkit "):
        return f"{_ENGINE}{name[len('[anon:toolkit ') :].rstrip(']')}"
    if name.startswith("[heap") or "malloc" in name or "scudo" in name:
        return ALLOCATOR
    if name.startswith("[stack") or "stack" in name:
        return STACKS
    if name in ("", "[anon]"):
        return UNNAMED
    if name.startswith("["):
        return KERNEL
    if ".so" in base or base == "trainer":
        return LIBRARIES
    if base == "base.ptd":
        return BASE
    if base == "state.tmp":
        return STATE
    if base.endswith((".ptd", ".pte")):
        return PROGRAMS
    return OTHER_FILES
