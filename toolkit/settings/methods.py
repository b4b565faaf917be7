"""How a training step finds what to change: a name and what it means, as the trainer has it."""

METHODS = {"exact": "the gradient of the loss, by backpropagation block by block"}
