"""What a trainer asks of the computer with the upper layers, and the answers, as bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.data.samples import Rows

Floats = NDArray[np.float32]

_LONGEST = 4096
_WORDS = 9


@dataclass(frozen=True)
class Question:
    """A question.

    Attributes:
        session, number: What its answer has to name.
        step: Of which hidden states are given; of a save the one that it is after.
        lr: Learning rate of the step.
        labelled: Tokens that the step's loss is the mean of.
        rows: Labels, positions and starts [S, T]; the tokens, which stay on the device, are zeros.
        hidden: What goes into the first upper layer [S, T, D].
        names: Of a save: the upper layers' adapters, as adapter.ptd names them.
    """

    session: int
    number: int
    step: int
    lr: float
    labelled: int
    rows: Rows | None = None
    hidden: Floats | None = None
    names: tuple[str, ...] = ()


def parse_question(content: bytes) -> Question | None:
    """Return a question, or None unless `content` is a whole one."""
    line, ended, _ = content[:_LONGEST].partition(b"\n")
    words, body = line.split(), content[len(line) + 1 :]
    if not ended or len(words) != _WORDS or words[2] not in (b"step", b"save"):
        return None
    try:
        session, number, step, labelled = (int(words[i]) for i in (0, 1, 3, 5))
        count, tokens, width = (int(word) for word in words[6:])
        head = (session, number, step, float(words[4]), labelled)
    except ValueError:
        return None
    if words[2] == b"save":
        return Question(*head, names=tuple(body.decode(errors="replace").split()))
    if min(count, tokens, width) < 1 or len(body) != count * tokens * (3 + width) * 4:
        return None
    table = np.frombuffer(bytearray(body), np.int32).reshape(count, tokens * (3 + width))
    labels, positions, start, hidden = np.split(table, [tokens, 2 * tokens, 3 * tokens], axis=1)
    rows = Rows(np.zeros_like(labels), labels, positions, start)
    floats = np.ascontiguousarray(hidden).view(np.float32).reshape(count, tokens, width)
    return Question(*head, rows, floats)


def answer_step(question: Question, loss: float, squares: float, gradient: Floats) -> bytes:
    """Return the answer to a step.

    Args:
        loss: Sum of the token losses, nats.
        squares: Sum of the squared gradients of the upper layers' adapters.
        gradient: Of the step's loss, by `question.hidden` [S, T, D].
    """
    return _line(question, f"{loss!r} {squares!r}") + gradient.tobytes()


def answer_save(question: Question, values: Sequence[Floats]) -> bytes:
    """Return the answer to a save: values in the order of `question.names`."""
    return _line(question, "0 0") + b"".join(value.tobytes() for value in values)


def answer_failed(question: Question, message: str) -> bytes:
    """Return the answer that ends the run with an error."""
    return _line(question, "failed " + " ".join(message.split())[: _LONGEST // 2])


def _line(question: Question, words: str) -> bytes:
    return f"{question.session} {question.number} {words}\n".encode()
