"""One step through ExecuTorch's Python runtime: the bundle is an ordinary ExecuTorch program."""

import ctypes
from pathlib import Path

import pytest
import torch
from executorch.runtime import Runtime
from torch import Tensor

from tests.oracle.rows import mixed_rows
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.flat_tensor import FlatTensorReader
from toolkit.oracle.batch import labelled
from toolkit.oracle.gradients import compare, step_gradients
from toolkit.oracle.model import build_exact_model
from toolkit.oracle.verification import write_perturbed_adapter
from toolkit.runtime import operators_library


class PythonStep:
    """Runs a bundle's methods as their metadata says, nothing else known about the model."""

    def __init__(self, bundle: Bundle, adapter: Path, seq_len: int) -> None:
        ctypes.CDLL(str(operators_library()), ctypes.RTLD_GLOBAL)
        self.program = Runtime.get().load_program(bundle.programs_path)
        self.base = bundle.base
        self.adapter = FlatTensorReader(adapter)
        self.seq_len = seq_len
        self.methods = {}

    def constant(self, name: str):
        """Return what a constant method says."""
        return self.program.load_method(name).execute([])

    def run(self, kind: str, layer: int = 0, **values: Tensor) -> dict[str, Tensor]:
        """Execute a method and return its outputs by name."""
        inputs = [self.value(name, layer, values) for name in self.constant(f"{kind}_inputs")]
        method = self.methods.setdefault(kind, self.program.load_method(f"{kind}_t{self.seq_len}"))
        outputs = [output.clone() for output in method.execute(inputs)]
        names = [name.format(layer=layer) for name in self.constant(f"{kind}_outputs")]
        return dict(zip(names, outputs, strict=True))

    def value(self, name: str, layer: int, values: dict[str, Tensor]) -> Tensor:
        """Return the tensor that an input's name stands for."""
        kind, _, key = name.partition(":")
        if not key:
            return values[kind].contiguous()
        if kind == "scalar":
            return torch.tensor(float(key))
        reader = {"base": self.base, "adapter": self.adapter}[kind]
        return reader.tensor(key.format(layer=layer)).clone()

    def gradients(self, row: dict[str, Tensor], tokens: int) -> tuple[float, dict[str, Tensor]]:
        """Return loss and gradients of one row."""
        layers = self.constant("layers")[0]
        names = self.constant("block_kinds")
        kinds = [names[int(digit)] for digit in self.constant("layer_kinds")[0]]
        hidden, kept = [self.run("embed", **row)["hidden"]], []
        for layer in range(layers):
            outputs = self.run(f"{kinds[layer]}_forward", layer, hidden=hidden[-1], **row)
            hidden.append(outputs.pop("hidden"))
            kept.append(outputs)
        scale = torch.tensor(1.0 / tokens)
        head = self.run("head_backward", hidden=hidden[-1], grad_scale=scale, **row)
        grad, found = head["grad"], {}
        for layer in reversed(range(layers)):
            backward = f"{kinds[layer]}_backward"
            values = {"hidden": hidden[layer], "grad": grad, **kept[layer], **row}
            outputs = self.run(backward, layer, **values)
            grad = outputs.pop("grad")
            found |= {name.removeprefix("gradient:"): value for name, value in outputs.items()}
        only_loss = self.run("head_loss", hidden=hidden[-1], **row)["loss"]
        assert only_loss.item() == pytest.approx(head["loss"].item(), rel=1e-6)
        return head["loss"].item() / tokens, found


ALL = "llama qwen2 smollm3 granite qwen3 olmo2 phi3 gemma3_text"


@pytest.mark.parametrize(
    ("family", "lowering"),
    [
        (family, lowering)
        for lowering, families in {"mesp": ALL, "mebp": ALL, "store-h": "qwen2 phi3"}.items()
        for family in families.split()
    ],
)
def test_step(make_bundle, tmp_path, family, lowering):
    bundle = Bundle.open(make_bundle(family, True, lowering))
    rows = mixed_rows(24, 150)
    write_perturbed_adapter(bundle, tmp_path / "adapter.ptd", seed=2)
    step = PythonStep(bundle, tmp_path / "adapter.ptd", 24)
    row = {
        "tokens": torch.from_numpy(rows.tokens[2:3]),
        "labels": torch.from_numpy(rows.labels[2:3]),
        "positions": torch.from_numpy(rows.positions[2]),
        "start": torch.from_numpy(rows.start[2]),
    }
    loss, gradients = step.gradients(row, labelled(rows, [2]))
    model = build_exact_model(bundle, tmp_path / "adapter.ptd")
    expected = step_gradients(model, rows, [2])
    errors = compare(gradients, expected.tensors)
    assert len(errors) == len(gradients) == 2 * (4 if family == "phi3" else 7) * 2
    assert errors[0].relative < 1e-5, errors[:5]
    assert loss == pytest.approx(expected.loss, rel=1e-6)
