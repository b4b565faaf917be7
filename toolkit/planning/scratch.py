"""What operators take from the kernels' workspace: asked of the trainer, which runs them dry.

A dry run goes through the operators' real code with the tile sizes of any instruction set and
computes nothing, so this machine's build answers for a phone. See runtime/operators/scratch.h.
"""

import json
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from toolkit.choices import ARITHMETICS
from toolkit.errors import ToolkitError
from toolkit.planning.graph import Operation, Value
from toolkit.runtime import TRAINER, host_abi, runtime_directory

_TIMEOUT_SECONDS = 60
_UNWANTED = "unwanted"
_GIVES_ADAPTERS = re.compile(r"(lora_linear(_saved)?|mlp)_backward$")


@dataclass(frozen=True)
class Kernels:
    """What decides the sizes of blocks, their number, and what packed operands take."""

    isa: str = "neon"
    threads: int = 4
    arithmetic: str = ARITHMETICS[0]


_known: dict[tuple[Kernels, str], int] = {}


def scratch_of(operations: Iterable[Operation], kernels: Kernels, together: int = 1) -> int:
    """Return the bytes of scratch in use at once, at most, while operators run one by one.

    Args:
        operations: Them.
        kernels: What they run on.
        together: Programs that call each of them side by side.

    Raises:
        ToolkitError: There is no trainer for this machine, or it does not know the instruction set
            or an operator.
    """
    calls = list(dict.fromkeys(_call(operation, together) for operation in operations))
    missing = [call for call in calls if (kernels, call) not in _known]
    if missing:
        answers = _ask(missing, kernels)
        _known.update(((kernels, c), n) for c, n in zip(missing, answers, strict=True))
    return max((_known[kernels, call] for call in calls), default=0)


def without_a(operation: Operation) -> Operation:
    """Return an operation that computes no gradient of an adapter's A."""
    if not _GIVES_ADAPTERS.search(operation.name):
        return operation
    first, *pairs = operation.results  # of the input, then of A and B in turn
    results = [
        value if number % 2 else replace(value, role=_UNWANTED)
        for number, value in enumerate(pairs)
    ]
    return replace(operation, results=(first, *results))


def _ask(calls: list[str], kernels: Kernels) -> list[int]:
    trainer = runtime_directory(host_abi()) / TRAINER
    command = [
        *(str(trainer), "scratch", "--isa", kernels.isa, "--threads", str(kernels.threads)),
        *("--arithmetic", kernels.arithmetic),
    ]
    lines = "".join(f"{call}\n" for call in calls)
    try:
        done = subprocess.run(
            command, input=lines, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolkitError(
            f"the trainer cannot be asked for the kernels' scratch: {error}"
        ) from error
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with code {done.returncode}"]
        cause = last[0].removeprefix("error: ")
        raise ToolkitError(f"the trainer cannot tell the kernels' scratch: {cause}")
    return [int(json.loads(line)["bytes"]) for line in done.stdout.splitlines()]


def _call(operation: Operation, together: int) -> str:
    values = [_word(value) for value in operation.arguments]
    times = f"{together}*" if together > 1 else ""
    return " ".join([times + operation.name, *values, "->", *map(_word, operation.results)])


def _word(value: Any) -> str:
    """Return a value as the trainer reads it."""
    if value is None:
        return "-"
    if isinstance(value, Value):
        unwanted = "~" if value.role == _UNWANTED else ""
        return f"{unwanted}{value.dtype}[{','.join(map(str, value.shape))}]"
    return str(value).lower() if isinstance(value, bool) else repr(value)
