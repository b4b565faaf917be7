"""Where hidden states are during a step: runtime/engine/{memory/checkpoints,training/passes}.cc.

State (i, s) is the input of block i for sequence s, later the gradient that arrives there.
"""

from dataclasses import dataclass

_SHARE_OF_FREE = 4
_FRONT_LIMIT = 4 << 20
_ROWS_LIMIT = 8 << 20


@dataclass(frozen=True)
class Checkpoints:
    """What the hidden states of a step take.

    Attributes:
        spilled: Whether they wait in a file.
        bytes: Memory of all buffers, the engine's ledger category "checkpoints".
        written: Bytes written to the file a step.
        read: Bytes read back a step.
    """

    spilled: bool
    bytes: int
    written: int
    read: int


def spills(place: str, size: int, available: int | None) -> bool:
    """Return whether something of this size waits in a file; see `plan_checkpoints`."""
    automatic = available is not None and size > available // _SHARE_OF_FREE
    return place == "spill" or (place == "auto" and automatic)


def plan_checkpoints(
    layers: int,
    sequences: int,
    state: int,
    place: str,
    available: int | None,
    below: int = 0,
    kept: int = 0,
    waiting: int | None = None,
) -> Checkpoints:
    """Return what one step takes.

    Args:
        layers: That have a backward pass.
        state: Bytes of one hidden state.
        place: "ram", "spill" or "auto", which spills what takes more than a quarter of free memory.
        available: Memory of the device that is free, bytes; None where it is not known and taken to
            be enough.
        below: Layers below those, which keep no state.
        kept: 1 where every layer keeps another state beside its input, else 0.
        waiting: Layers whose states wait for the backward pass; None: all that have one.
    """
    total = (layers + 1 + kept * layers) * sequences * state
    waiting = layers if waiting is None else waiting
    if not spills(place, total, available):
        held = (waiting + 1 + kept * waiting) * sequences + 1
        return Checkpoints(False, held * state, 0, 0)
    below += layers - waiting
    step = _Step(waiting, below, sequences, sequences * state <= _FRONT_LIMIT, kept)
    step.run()
    return Checkpoints(True, step.buffers * state, step.written * state, step.read * state)


def plan_rows(pairs: int, state: int, kept: int = 0, beside: int = 1) -> Checkpoints:
    """Return what the hidden states of a step of forward passes take.

    Args:
        pairs: Rows of a step, each at two points of the adapter; a pass takes as many as fit.
        state: Bytes of one hidden state.
        kept: 1 where every layer keeps another state beside its input, else 0.
        beside: Rows whose outputs are made at the same time.
    """
    made = (1 + kept) * beside
    together = max(1, min((_ROWS_LIMIT // state - made) // 2, pairs))
    return Checkpoints(False, (2 * together + made) * state, 0, 0)


class _Step:
    """One step with spilled states, counted in states."""

    def __init__(
        self, layers: int, below: int, sequences: int, keep_front: bool, kept: int
    ) -> None:
        self.layers, self.below, self.kept = layers, below, kept
        self.sequences, self.keep_front = sequences, keep_front
        self.buffers = self.written = self.read = 0
        self._free = 0
        self._held: set[tuple[int, int]] = set()
        self._in_file: set[tuple[int, int]] = set()

    def run(self) -> None:
        every = range(self.sequences)
        for s in every:
            self._put(0, s)
            self._rest(0, s)
        for _ in range(self.below):
            for s in every:
                self._get(0, s)
                for _ in range(self.kept):
                    self._acquire()
                self._acquire()
                self._free += self.kept
                self._place(0, s)
                self._rest(0, s)
        for layer in range(self.layers):
            for s in every:
                self._get(layer, s)
                self._acquire()
                for _ in range(self.kept):
                    self._put(self._beside(layer), s)
                self._spill(layer, s)
                self._spill(self._beside(layer), s)
                self._place(layer + 1, s)
                self._rest(layer + 1, s)
        for s in every:
            self._get(self.layers, s)
            self._put(self.layers, s)
            self._rest(self.layers, s)
        for layer in reversed(range(self.layers)):
            for s in every:
                self._get(layer, s)
                self._get(layer + 1, s)
                for _ in range(self.kept):
                    self._get(self._beside(layer), s)
                self._drop(self._beside(layer), s)
                self._move(layer + 1, layer, s)
                self._rest(layer, s)

    def _beside(self, layer: int) -> int:
        """Return the number of what a layer keeps beside its input."""
        return self.layers + 1 + layer

    def _acquire(self) -> None:
        if self._free:
            self._free -= 1
        else:
            self.buffers += 1

    def _put(self, layer: int, s: int) -> None:
        self._acquire()
        self._place(layer, s)

    def _place(self, layer: int, s: int) -> None:
        self._drop(layer, s)
        self._held.add((layer, s))

    def _move(self, before: int, after: int, s: int) -> None:
        self._in_file.discard((before, s))
        self._drop(after, s)
        self._held.remove((before, s))
        self._held.add((after, s))

    def _drop(self, layer: int, s: int) -> None:
        if (layer, s) in self._held:
            self._held.remove((layer, s))
            self._free += 1
        self._in_file.discard((layer, s))

    def _get(self, layer: int, s: int) -> None:
        if (layer, s) not in self._held:
            self._acquire()
            self.read += 1
            self._held.add((layer, s))

    def _spill(self, layer: int, s: int) -> None:
        if (layer, s) not in self._held:
            return
        if (layer, s) not in self._in_file:
            self.written += 1
            self._in_file.add((layer, s))
        self._held.remove((layer, s))
        self._free += 1

    def _rest(self, layer: int, s: int) -> None:
        if not self.keep_front:
            self._spill(layer, s)
