"""What every .ptd file of ours says of itself, so that a damaged one is found before it is used.

Two tensors stand behind all others:

    sha256     uint8 [32]     SHA-256 of the file's bytes before this tensor: the identity of its
                              content, which runs record and compare
    checksums  int32 [N + 3]  CRC-32 (zlib's) of the head without its padding, of each of the N
                              other tensors in the order of the file, of sha256, and of the numbers
                              before this last one

The checksum of a tensor can be held against the bytes as they are streamed. CRC-32 is in the
standard libraries of Python and of every Android version, and processors compute it.
"""

import hashlib
import zlib
from collections.abc import Iterable
from typing import IO

import numpy as np

SHA256 = "sha256"
CHECKSUMS = "checksums"
SHA256_BYTES = 32


def checksum_count(tensors: int) -> int:
    """Return the length of `checksums` in a file of so many tensors beside these two."""
    return tensors + 3


class SummingWriter:
    """Writes to a file and sums up what it writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._checksums: list[int] = []

    def write(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Write what gets a checksum of its own: the head or a tensor."""
        crc = 0
        for chunk in chunks:
            self.pad(chunk)
            crc = zlib.crc32(chunk, crc)
        self._checksums.append(crc)

    def pad(self, data: bytes | memoryview) -> None:
        """Write what no checksum covers."""
        self._file.write(data)
        self._sha256.update(data)

    def pad_to(self, alignment: int) -> None:
        """Write zeros up to a multiple of `alignment`."""
        self.pad(bytes(-self._file.tell() % alignment))

    def finish(self, alignment: int) -> bytes:
        """Write the tensors sha256 and checksums, and return the former."""
        self.pad_to(alignment)
        digest = self._sha256.digest()
        self.write([digest])
        self.pad_to(alignment)
        self._file.write(encode_checksums(self._checksums))
        return digest


def encode_checksums(values: Iterable[int]) -> bytes:
    """Return the bytes of `checksums`: the numbers and their own checksum."""
    data = np.array(list(values), dtype="<u4").tobytes()
    return data + zlib.crc32(data).to_bytes(4, "little")
