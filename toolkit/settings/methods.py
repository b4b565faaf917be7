"""How a training step finds what to change: a name and what it means, as the trainer has it."""

from typing import TYPE_CHECKING, Literal

METHODS = {"exact": "the gradient of the loss, by backpropagation block by block"}

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[*METHODS]
"""A name of one, for command lines."""
