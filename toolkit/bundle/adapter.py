"""The LoRA adapter that training starts from: as `peft` initializes it, or an existing one.

With a seed, the tensors equal those of

    torch.manual_seed(seed)
    peft.get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets))

bit by bit, whatever ranks and layers: B is zero, A is kaiming-uniform with a = sqrt(5), drawn in
the order of the modules.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from toolkit.bundle.flat_tensor import TensorSpec, write_flat_tensor
from toolkit.bundle.peft_files import open_peft_weights, prefix_of, read_peft_settings
from toolkit.bundle.weights import check_finite
from toolkit.errors import ToolkitError
from toolkit.lora import LoraSettings


def initial_adapter(specs: list[TensorSpec], seed: int) -> Iterator[Tensor]:
    """Yield the tensors of a fresh adapter.

    Args:
        specs: A and B of every projection in turn, from `layout.adapter_specs`.
        seed: What `torch.manual_seed` would be called with.
    """
    state = torch.Generator().manual_seed(seed).get_state()
    for a_spec, b_spec in zip(specs[::2], specs[1::2], strict=True):
        a, state = _draw_a(a_spec.shape, b_spec.shape, state)
        yield a
        yield torch.zeros(b_spec.shape)


def _draw_a(a: tuple[int, ...], b: tuple[int, ...], state: Tensor) -> tuple[Tensor, Tensor]:
    """Draw A as `peft` does from a generator's state; return it and the state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(state)
        # peft makes both linear layers, which draws their default weights, then draws A anew.
        weight = nn.Linear(a[1], a[0], bias=False).weight.detach()
        nn.Linear(b[1], b[0], bias=False)
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        return weight, torch.random.get_rng_state()


def check_peft_weights(directory: Path, specs: list[TensorSpec]) -> None:
    """Check that an adapter has exactly the tensors that the model needs.

    Raises:
        ToolkitError: Naming the first tensor that is missing, different or too many.
    """
    weights = open_peft_weights(directory)
    prefix = prefix_of(weights.names(), specs[0].name)
    wanted = {prefix + spec.name: spec for spec in specs}
    for name, spec in wanted.items():
        if name not in weights.names():
            raise ToolkitError(
                f"The adapter in {directory} has no {name}",
                "Every layer with adapters must have the same targets, projections of the model's",
            )
        if weights.shape(name) != spec.shape:
            raise ToolkitError(
                f"{name} in {directory} has shape {list(weights.shape(name))}, "
                f"the model needs {list(spec.shape)}",
                "The adapter belongs to another model",
            )
    extra = sorted(set(weights.names()) - set(wanted))
    if extra:
        raise ToolkitError(
            f"The adapter in {directory} has {extra[0]}, which the model has no place for",
            "Only adapters of the projections in the decoder layers are supported",
        )


def check_peft_settings(directory: Path, wanted: LoraSettings) -> None:
    """Check that an adapter has the settings of a bundle.

    Raises:
        ToolkitError: One differs: the bundle's programs are for its own.
    """
    own = read_peft_settings(directory)
    for what, mine, theirs in (
        ("rank", _of_targets(own.rank_of, own.targets), _of_targets(wanted.rank_of, own.targets)),
        (
            "alpha",
            _of_targets(own.alpha_of, own.targets),
            _of_targets(wanted.alpha_of, own.targets),
        ),
        ("targets", ",".join(sorted(own.targets)), ",".join(sorted(wanted.targets))),
        ("use_rslora", own.rslora, wanted.rslora),
        # Whether it has all layers of a bundle that has adapters in all, its tensors will tell.
        ("layers", own.layers if wanted.layers else "", wanted.layers),
    ):
        if mine != theirs:
            raise ToolkitError(
                f"the adapter in {directory} has {what} {mine}, the bundle {theirs}",
                f"Export a bundle for it with `toolkit export MODEL --adapter {directory}`",
            )


def _of_targets(value_of: Callable[[str], float], targets: tuple[str, ...]) -> str:
    """Return one number if it is the same for all targets, else each."""
    values = {name: f"{value_of(name):g}" for name in sorted(targets)}
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return ", ".join(f"{value} ({name})" for name, value in values.items())


def write_peft_adapter(
    directory: Path, specs: list[TensorSpec], lora: LoraSettings, path: Path
) -> None:
    """Write a PEFT adapter as adapter .ptd.

    Args:
        directory: The adapter.
        specs: The tensors of the bundle's own adapter .ptd.
        lora: The bundle's settings.
        path: The file to write.

    Raises:
        ToolkitError: The adapter is not one for this bundle.
    """
    check_peft_settings(directory, lora)
    check_peft_weights(directory, specs)
    write_flat_tensor(path, specs, peft_weights(directory, specs))


def peft_weights(directory: Path, specs: list[TensorSpec]) -> Iterator[Tensor]:
    """Yield an existing adapter's tensors as float32, in the order of `specs`.

    Raises:
        ToolkitError: Naming the first tensor with a value that is not finite.
    """
    weights = open_peft_weights(directory)
    prefix = prefix_of(weights.names(), specs[0].name)
    for spec in specs:
        values = weights.rows(prefix + spec.name, 0, spec.shape[0])
        check_finite(f"{spec.name} in {directory}", values)
        yield values
