"""The few messages of Perfetto's trace format that a run needs, as protocol buffer bytes.

Written by hand because a run has millions of packets and each is a dozen bytes: this is twenty
times faster than building messages, and needs no dependency. Field numbers are those of
protos/perfetto/trace/ in Perfetto's repository; tests read the bytes back with its own protos.
"""

import struct
from functools import lru_cache

SLICE_BEGIN, SLICE_END, INSTANT, COUNTER = 1, 2, 3, 4
UNIT_COUNT, UNIT_BYTES = 2, 3
_VARINT, _LENGTH, _DOUBLE = 0, 2, 1
_CLEARED, _NEEDED = 1, 2  # TracePacket.SequenceFlags


def varint(value: int) -> bytes:
    """Return a base-128 varint; negative numbers as 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """Return an integer field."""
    return varint(field << 3 | _VARINT) + varint(value)


def double(field: int, value: float) -> bytes:
    """Return a double field."""
    return varint(field << 3 | _DOUBLE) + struct.pack("<d", value)


def data(field: int, content: bytes) -> bytes:
    """Return a field that holds bytes or another message."""
    return varint(field << 3 | _LENGTH) + varint(len(content)) + content


def text(field: int, content: str) -> bytes:
    """Return a string field."""
    return data(field, content.encode("utf-8", "replace"))


def packet(content: bytes, sequence: int, *, cleared: bool = False) -> bytes:
    """Return Trace.packet: a TracePacket of one sequence of packets."""
    flags = _CLEARED | _NEEDED if cleared else _NEEDED
    return data(1, content + number(10, sequence) + number(13, flags))


def interned_names(names: dict[str, int], arguments: list[str]) -> bytes:
    """Return TracePacket.interned_data with the names of events and, counted from 1, arguments."""
    entries = [data(2, number(1, iid) + text(2, name)) for name, iid in names.items()]
    entries += [data(3, number(1, i) + text(2, name)) for i, name in enumerate(arguments, 1)]
    return data(12, b"".join(entries))


def process_track(uuid: int, pid: int, name: str, labels: list[str]) -> bytes:
    """Return TracePacket.track_descriptor of a process."""
    process = number(1, pid) + text(6, name) + b"".join(text(8, label) for label in labels)
    return data(60, number(1, uuid) + data(3, process))


def slice_track(uuid: int, parent: int, name: str) -> bytes:
    """Return TracePacket.track_descriptor of a row of slices."""
    return data(60, number(1, uuid) + text(2, name) + number(5, parent))


def counter_track(uuid: int, parent: int, name: str, unit: int, unit_name: str = "") -> bytes:
    """Return TracePacket.track_descriptor of a counter."""
    counter = number(3, unit) + (text(6, unit_name) if unit_name else b"")
    return data(60, number(1, uuid) + text(2, name) + number(5, parent) + data(8, counter))


@lru_cache(maxsize=256, typed=True)
def annotation(name: str, value: str | int | float | bool | None) -> bytes:
    """Return TrackEvent.debug_annotations with one value."""
    if isinstance(value, bool):
        content = number(2, int(value))
    elif isinstance(value, int) and abs(value) < 1 << 62:
        content = number(4, value)
    elif isinstance(value, float):
        content = double(5, value)
    else:
        content = text(6, "" if value is None else str(value))
    return data(4, content + text(10, name))


def interned_annotation(name: int, value: int) -> bytes:
    """Return TrackEvent.debug_annotations with a whole number under an interned name."""
    return data(4, number(1, name) + number(4, value))


class EventWriter:
    """Makes the packets of events; what is the same in all of them is prepared once."""

    def __init__(self, sequence: int) -> None:
        self._tail = number(10, sequence) + number(13, _NEEDED)
        self._heads: dict[tuple[int, int, int], bytes] = {}

    def event(self, kind: int, track: int, t: int, name: int = 0, more: bytes = b"") -> bytes:
        """Return Trace.packet with a track event.

        Args:
            kind: One of the constants above.
            t: Nanoseconds.
            name: Number of an interned name, 0 for none.
            more: Further fields of TrackEvent.
        """
        key = (kind, track, name)
        head = self._heads.get(key)
        if head is None:
            head = number(9, kind) + number(11, track) + (number(10, name) if name else b"")
            self._heads[key] = head
        body = head + more
        content = b"\x40" + varint(t) + b"\x5a" + varint(len(body)) + body + self._tail
        return b"\x0a" + varint(len(content)) + content

    def count(self, track: int, t: int, value: int) -> bytes:
        """Return Trace.packet with a counter's value."""
        return self.event(COUNTER, track, t, more=b"\xf0\x01" + varint(value))

    def measure(self, track: int, t: int, value: float) -> bytes:
        """Return Trace.packet with a counter's value that is no whole number."""
        return self.event(COUNTER, track, t, more=double(44, value))
