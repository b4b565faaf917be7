"""Which part of the data is held out: the share of tokens that was asked for, chosen by content.

Chats and short documents are held out whole; equal ones together, so that nothing held out is also
trained on. A text that is longer than all that is to be held out gives a stretch of its parts, all
such texts the same share. The order that decides is that of hashes of seed and content, so the
choice does not depend on the order of files or on the machine.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Item:
    """One document.

    Attributes:
        content: What makes it equal to another one.
        sizes: Tokens of its parts, in order.
        divisible: Whether some of its parts can be held out without the others.
    """

    content: str
    sizes: tuple[int, ...]
    divisible: bool


@dataclass
class _Group:
    """Equal documents, decided on together: `sizes` are those of each."""

    digest: bytes
    sizes: tuple[int, ...]
    divisible: bool
    members: list[int] = field(default_factory=list)
    held: range = range(0)

    @property
    def size(self) -> int:
        return len(self.members) * sum(self.sizes)

    def take_all(self) -> int:
        """Hold the whole document out; return its tokens."""
        self.held = range(len(self.sizes))
        return self.size

    def take_stretch(self, tokens: float) -> int:
        """Hold about so many tokens of parts that follow each other out; return how many.

        At least one part stays. Where the stretch begins follows from the digest.
        """
        about = round(tokens * len(self.sizes) / self.size)
        counts = {max(0, min(len(self.sizes) - 1, about + more)) for more in (-1, 0, 1)}
        stretches = [self._stretch(count) for count in sorted(counts)]
        self.held = min(stretches, key=lambda held: abs(self._tokens(held) - tokens))
        return self._tokens(self.held)

    def take_one(self) -> None:
        """Hold a single part out."""
        self.held = self._stretch(1)

    def _stretch(self, count: int) -> range:
        start = int.from_bytes(self.digest[:8], "big") % (len(self.sizes) - count + 1)
        return range(start, start + count)

    def _tokens(self, held: range) -> int:
        return len(self.members) * sum(self.sizes[held.start : held.stop])


def choose_held_out(items: Sequence[Item], share: float, seed: int) -> list[range]:
    """Return for each document which of its parts are held out.

    The tokens held out are within one part of `share` of all, unless documents that cannot be
    divided are too large for that. With share > 0 at least one part is held out and one is left,
    if there are two different documents or one that can be divided.
    """
    groups = _groups(items, seed)
    if share > 0 and groups:
        _choose(groups, share)
    held = [range(0)] * len(items)
    for group in groups:
        for member in group.members:
            held[member] = group.held
    return held


def _groups(items: Sequence[Item], seed: int) -> list[_Group]:
    """Return the documents that have tokens, equal ones together, in the order that decides."""
    groups: dict[bytes, _Group] = {}
    for index, item in enumerate(items):
        if not sum(item.sizes):
            continue
        digest = hashlib.sha256(f"{seed}:{item.content}".encode()).digest()
        divisible = item.divisible and len(item.sizes) > 1
        group = groups.setdefault(digest, _Group(digest, item.sizes, divisible))
        group.members.append(index)
    return [groups[digest] for digest in sorted(groups)]


def _choose(groups: list[_Group], share: float) -> None:
    wanted = share * sum(group.size for group in groups)
    long = [group for group in groups if group.divisible and group.size > wanted]
    short = [group for group in groups if not group.divisible or group.size <= wanted]
    owed = _choose_whole(short, share, keep_one=not long)
    for group in long:
        owed += share * group.size
        owed -= group.take_stretch(owed)
    if not any(group.held for group in groups):
        _choose_one(long, short, wanted)


def _choose_whole(groups: list[_Group], share: float, keep_one: bool) -> float:
    """Hold documents out in order, skipping those too large for what is missing; return the rest.

    One of them may be divided, or be a little too large when that comes nearer.
    """
    owed = share * sum(group.size for group in groups)
    left = len(groups)
    for group in groups:
        limit = owed if group.divisible else 2 * owed
        if group.size < limit and (left > 1 or not keep_one):
            owed -= group.take_all()
            left -= 1
        elif group.divisible:
            owed -= group.take_stretch(owed)
    return owed


def _choose_one(long: list[_Group], short: list[_Group], wanted: float) -> None:
    """Hold out what comes nearest to too little for any part: one part, or one document."""
    if long:
        long[0].take_one()
    elif len(short) > 1:
        min(short, key=lambda group: abs(group.size - wanted)).take_all()
