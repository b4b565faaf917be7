"""How a training step finds what to change, as the trainer has it.

One entry each: command lines and planner take theirs from here. The engine's own is a file of
`runtime/engine/training/methods`, and a test holds the two together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from toolkit.settings.declaration import Value


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        help: What it does.
        options: Flags that it reads, with the defaults they have for it.
        backward: Whether there is a backward pass, with checkpoints and gradients.
        updates: Whether it changes the adapter itself; the optimizer is then `UPDATES_AS`.
        skips: Whether the backward pass is that of `blocks` layers alone.
        together: Tokens of rows that share the unpacking of weights, up to eight rows in pairs.
    """

    help: str
    options: Mapping[str, Value]
    backward: bool = True
    updates: bool = False
    skips: bool = False
    together: int = 0


UPDATES_AS = "sgd"
"""The optimizer, without a state, of methods that change the adapter themselves."""

_BACKWARD: Mapping[str, Value] = {
    "max-grad-norm": 0.0, "clipping": "keep", "checkpoints": "auto", "freeze": "none",
}  # fmt: skip
METHODS = {
    "exact": Method(
        "the gradient of the loss, by backpropagation block by block",
        _BACKWARD,
    ),
    "lcsb": Method(
        "LCSB: some layers a step, by the gradient of a surrogate, an approximation: trained "
        "blocks that are not chosen are h + detach(o - h) and have no backward pass",
        {**_BACKWARD, "blocks": 8, "selection": "cyclic"},
        skips=True,
    ),
    "block-coordinate": Method(
        "some layers a step, by their exact gradients: the backward pass ends with the lowest of "
        "them",
        {**_BACKWARD, "blocks": 8, "selection": "cyclic"},
    ),
    "mezo": Method(
        "MeZO: p -= lr (g z + weight-decay p), z normal, g = (L(p + zo-eps z) - L(p - zo-eps z)) "
        "/ (2 zo-eps)",
        {"zo-eps": 1e-3, "freeze": "none"},
        backward=False,
        updates=True,
    ),
    "sparse-mezo": Method(
        "MeZO of the small values alone: those whose magnitude is in the lowest share, "
        "1 - sparsity, of their tensor's when the run begins; tensors of zeros as a whole",
        {"zo-eps": 1e-3, "sparsity": 0.8},
        backward=False,
        updates=True,
    ),
    "mobizo": Method(
        "MobiZO (P-RGE): B -= lr (mean of g z over so many queries + weight-decay B), A as it is, "
        "all queries in passes that read the weights once",
        {"zo-eps": 1e-3, "queries": 4},
        backward=False,
        updates=True,
        together=128,
    ),
    "split": Method(
        "exact gradients of the layers below --cut here, and the others with the loss on the "
        "computer that asked for the run: hidden states go up, their gradients come down",
        {"checkpoints": "auto", "cut": 1},
    ),
}

METHOD_OPTIONS = tuple(dict.fromkeys(flag for row in METHODS.values() for flag in row.options))
"""Flags that not every method reads."""
