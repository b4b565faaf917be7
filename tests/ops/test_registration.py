"""What PyTorch and ExecuTorch need of an operator: schema, fake kernel, out variant."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.support.operators import Sizes, arguments
from tests.support.programs import lower_calls, outputs_of
from toolkit.ops import OPERATORS
from toolkit.ops.library import Operator

SIZES = Sizes(t=5)
OPTIONAL_ABSENT = replace(SIZES, scheme="int4-symmetric", bias=False, adapters="up")
VARIANTS = {"all given": SIZES, "optional absent": OPTIONAL_ABSENT}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(name, variant):
    args = arguments(name, VARIANTS[variant])
    for argument, arg in zip(OPERATORS[name].arguments, args, strict=True):
        if argument in "x q k v a b gate up gate_a down_b" and isinstance(arg, Tensor):
            arg.requires_grad_("backward" not in name and name != "attention_cached")
    torch.library.opcheck(getattr(torch.ops.toolkit, name).default, args)


@pytest.mark.parametrize("name", OPERATORS)
def test_out_variant_writes_the_same_values(name):
    args = arguments(name)
    expected = outputs_of(OPERATORS[name](*args))
    targets = [torch.full_like(t, torch.nan if t.is_floating_point() else -1) for t in expected]
    out = getattr(torch.ops.toolkit, name).out(
        *args, **dict(zip(OPERATORS[name].outputs, targets, strict=True))
    )
    for returned, target, value in zip(outputs_of(out), targets, expected, strict=True):
        assert returned is target
        assert torch.equal(target, value)


@pytest.mark.parametrize("name", OPERATORS)
def test_outputs_are_contiguous_and_fake_kernel_agrees(name):
    """Also for arguments that are not contiguous, as gradients inside autograd may be."""
    args = [
        arg.mT.contiguous().mT if isinstance(arg, Tensor) and arg.dim() == 3 else arg
        for arg in arguments(name)
    ]
    real = outputs_of(OPERATORS[name](*args))
    with torch._subclasses.FakeTensorMode() as mode:
        fake_args = [mode.from_tensor(a) if isinstance(a, Tensor) else a for a in args]
        fake = outputs_of(OPERATORS[name](*fake_args))
    for r, f in zip(real, fake, strict=True):
        assert r.is_contiguous()
        assert (r.shape, r.dtype, r.stride()) == (f.shape, f.dtype, f.stride())


def test_every_operator_exports_with_its_out_variant():
    """ExecuTorch finds every `.out`, with optional tensors given and absent."""
    program = lower_calls(
        {
            variant.replace(" ", "_"): {name: arguments(name, sizes) for name in OPERATORS}
            for variant, sizes in VARIANTS.items()
        }
    )
    for plan in program.executorch_program.execution_plan:
        assert {(op.name, op.overload) for op in plan.operators} == {
            (f"toolkit::{name}", "out") for name in OPERATORS
        }


def test_one_operator_alone_is_a_small_program():
    program = lower_calls({"forward": {"lora_linear": arguments("lora_linear")}})
    assert len(program.buffer) < 4096


def test_declaration_without_named_outputs_is_refused():
    with pytest.raises(ValueError, match="not a declaration"):
        Operator("nothing(Tensor x) -> Tensor", lambda x: x, lambda x: [x.shape])
