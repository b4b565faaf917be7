"""The head of a FlatTensor (.ptd) file, ExecuTorch's format for named tensors.

    bytes 0-3    offset of the flatbuffer's root table
    bytes 4-7    "FT01"
    bytes 8-47   extended header, see `_EXTENDED`, padded to 48 bytes
    then         the flatbuffer: a table FlatTensor (schema of ExecuTorch 1.5.1, flat_tensor.fbs)
    then         the segments, from the header's segment base on

ExecuTorch's own serializer pulls in its compiler (9 s to import) and wants all data in memory, so
the table is encoded here with the flatbuffers library. Nothing in this file needs torch.
"""

import struct
from dataclasses import dataclass
from typing import Any

import flatbuffers
from flatbuffers import number_types, table

from toolkit.errors import ToolkitError

MAGIC = b"FT01"
HEADER_MAGIC = b"FH01"
HEADER_OFFSET = 8
HEADER_BYTES = 48
_EXTENDED = struct.Struct("<4sIQQQQ")  # magic, length, flatbuffer offset and size, segments ditto
_SCHEMA_VERSION = 0
_MAX_RANK = 16


@dataclass(frozen=True)
class Entry:
    """One named tensor: ExecuTorch's scalar type number, sizes, and its place in the file."""

    name: str
    scalar_type: int
    sizes: tuple[int, ...]
    offset: int
    nbytes: int


def encode(entries: list[Entry], alignment: int) -> bytes:
    """Return the head of a file, padded with zeros to where the segments begin.

    Args:
        entries: Offsets are relative to the first segment and rise.
        alignment: The head's length is a multiple of it.
    """
    flatbuffer = _encode_table(entries)
    base = -(-(len(flatbuffer) + HEADER_BYTES) // alignment) * alignment
    end = entries[-1].offset + entries[-1].nbytes if entries else 0
    root = struct.unpack_from("<I", flatbuffer)[0] + HEADER_BYTES
    extended = _EXTENDED.pack(
        HEADER_MAGIC, _EXTENDED.size, HEADER_BYTES, len(flatbuffer), base, end
    )
    head = struct.pack("<I", root) + MAGIC + extended.ljust(HEADER_BYTES, b"\0") + flatbuffer[8:]
    return head.ljust(base, b"\0")


def head_length(first_bytes: bytes) -> int:
    """Return how many bytes `decode` needs, from the file's first 64 bytes.

    Raises:
        ToolkitError: This is not a FlatTensor file.
    """
    _, offset, size, _, _ = _extended_header(first_bytes)
    return offset + size


def decode(head: bytes, file_size: int) -> dict[str, Entry]:
    """Parse the head of a file; the entries' offsets are absolute.

    Raises:
        ToolkitError: The head is damaged or points outside the file.
    """
    _, _, _, base, _ = _extended_header(head)
    try:
        entries = _decode_table(head, base)
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError, TypeError) as error:
        raise _damaged("its table cannot be read") from error
    for entry in entries.values():
        if entry.offset < base or entry.offset + entry.nbytes > file_size:
            raise _damaged(f"tensor {entry.name!r} lies outside the file")
    return entries


def _damaged(why: str) -> ToolkitError:
    return ToolkitError(f"Not a complete FlatTensor file: {why}", "Make the file again")


def _extended_header(data: bytes) -> tuple[bytes, int, int, int, int]:
    if len(data) < HEADER_OFFSET + _EXTENDED.size or data[4:8] != MAGIC:
        raise _damaged("it does not begin as one")
    magic, length, offset, size, base, end = _EXTENDED.unpack_from(data, HEADER_OFFSET)
    if magic != HEADER_MAGIC or length < _EXTENDED.size:
        raise _damaged("its header is not valid")
    return magic, offset, size, base, end


def _encode_table(entries: list[Entry]) -> bytes:
    builder = flatbuffers.Builder(4096)
    named, segments = [], []
    for index, entry in enumerate(entries):
        named.append(_encode_named(builder, entry, index))
        builder.StartObject(2)
        builder.PrependUint64Slot(0, entry.offset, 0)
        builder.PrependUint64Slot(1, entry.nbytes, 0)
        segments.append(builder.EndObject())
    named_vector = _offsets(builder, named)
    segment_vector = _offsets(builder, segments)
    builder.StartObject(3)
    builder.PrependUint32Slot(0, _SCHEMA_VERSION, 0)
    builder.PrependUOffsetTRelativeSlot(1, segment_vector, 0)
    builder.PrependUOffsetTRelativeSlot(2, named_vector, 0)
    builder.Finish(builder.EndObject(), file_identifier=MAGIC)
    return bytes(builder.Output())


def _encode_named(builder: flatbuffers.Builder, entry: Entry, index: int) -> int:
    key = builder.CreateString(entry.name)
    builder.StartVector(4, len(entry.sizes), 4)
    for size in reversed(entry.sizes):
        builder.PrependInt32(size)
    sizes = builder.EndVector()
    order = builder.CreateByteVector(bytes(range(len(entry.sizes))))
    builder.StartObject(3)
    builder.PrependInt8Slot(0, entry.scalar_type, 0)
    builder.PrependUOffsetTRelativeSlot(1, sizes, 0)
    builder.PrependUOffsetTRelativeSlot(2, order, 0)
    layout = builder.EndObject()
    builder.StartObject(3)
    builder.PrependUOffsetTRelativeSlot(0, key, 0)
    builder.PrependUint32Slot(1, index, 0)
    builder.PrependUOffsetTRelativeSlot(2, layout, 0)
    return int(builder.EndObject())


def _offsets(builder: flatbuffers.Builder, items: list[int]) -> int:
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        builder.PrependUOffsetTRelative(item)
    return int(builder.EndVector())


def _decode_table(head: bytes, base: int) -> dict[str, Entry]:
    root = _Table(head, struct.unpack_from("<I", head)[0])
    if root.number(0, number_types.Uint32Flags) > _SCHEMA_VERSION:
        raise _damaged("it was written by a newer version")
    segments = [
        (segment.number(0, number_types.Uint64Flags), segment.number(1, number_types.Uint64Flags))
        for segment in root.tables(1)
    ]
    entries = {}
    for named in root.tables(2):
        name = named.string(0)
        offset, nbytes = segments[named.number(1, number_types.Uint32Flags)]
        layout = named.child(2)
        sizes = tuple(layout.numbers(1, number_types.Int32Flags))
        if len(sizes) > _MAX_RANK or any(size < 0 for size in sizes):
            raise _damaged(f"tensor {name!r} has no valid shape")
        scalar_type = layout.number(0, number_types.Int8Flags)
        entries[name] = Entry(name, scalar_type, sizes, base + offset, nbytes)
    return entries


class _Table:
    """Fields of a flatbuffer table by number."""

    def __init__(self, data: bytes, position: int) -> None:
        if not 0 <= position <= len(data) - 4:
            raise IndexError(position)
        self._table = table.Table(data, position)

    def number(self, field: int, flags: Any) -> int:
        offset = self._table.Offset(4 + 2 * field)
        return int(self._table.Get(flags, self._table.Pos + offset)) if offset else 0

    def string(self, field: int) -> str:
        return str(self._table.String(self._table.Pos + self._required(field)), "utf-8")

    def child(self, field: int) -> "_Table":
        position = self._table.Indirect(self._table.Pos + self._required(field))
        return _Table(self._table.Bytes, position)

    def numbers(self, field: int, flags: Any) -> list[int]:
        start, count = self._vector(field, flags.bytewidth)
        return [self._table.Get(flags, start + i * flags.bytewidth) for i in range(count)]

    def tables(self, field: int) -> list["_Table"]:
        start, count = self._vector(field, 4)
        positions = (self._table.Indirect(start + 4 * i) for i in range(count))
        return [_Table(self._table.Bytes, position) for position in positions]

    def _required(self, field: int) -> int:
        offset: int = self._table.Offset(4 + 2 * field)
        if not offset:
            raise IndexError(field)
        return offset

    def _vector(self, field: int, width: int) -> tuple[int, int]:
        offset = self._table.Offset(4 + 2 * field)
        if not offset:
            return 0, 0
        start, count = self._table.Vector(offset), self._table.VectorLen(offset)
        if start + count * width > len(self._table.Bytes):
            raise IndexError(field)
        return start, count
