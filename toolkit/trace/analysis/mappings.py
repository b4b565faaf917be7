"""The process's mappings in groups that people know: where memory is that no ledger has."""

from dataclasses import dataclass

from toolkit.trace.schema import Mapping, Smaps
from toolkit.trace.units import KIB


@dataclass(frozen=True)
class MappingGroup:
    """Mappings of one kind: resident bytes, and how much of it is anonymous."""

    name: str
    bytes: int
    anonymous: int


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


def _group(entry: Mapping) -> str:
    name = entry.name
    base = name.removesuffix(" (deleted)").rpartition("/")[2]
    if name.startswith("[anon:toolkit "):
        return f"engine: {name[len('[anon:toolkit ') :].rstrip(']')}"
    if name.startswith("[heap") or "malloc" in name or "scudo" in name:
        return "allocator"
    if name.startswith("[stack") or "stack" in name:
        return "stacks"
    if name in ("", "[anon]"):
        return "anonymous without a name (engine's buffers, stacks of threads)"
    if name.startswith("["):
        return "of the kernel"
    if ".so" in base or base == "trainer":
        return "code of libraries and trainer"
    if base == "base.ptd":
        return "base weights"
    if base.endswith((".ptd", ".pte")):
        return "programs, adapters and data"
    return "other files"
