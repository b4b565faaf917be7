"""Programs that say of themselves what cannot be: refused before anything is trained on them."""

import pytest
from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary
from executorch.exir.schema import EValue, Int, String

from tests.runtime.engine.training.test_errors import tell_identity
from tests.runtime.running import error_of, run

Q_PROJ = "layers.{layer}.self_attn.q_proj.lora_A.weight"
UP_PROJ = "layers.{layer}.mlp.up_proj.lora_B.weight"


@pytest.fixture
def craft(bundle_copy):
    """Return a function that changes what programs.pte says: constant method -> change of a list.

    A method that is missing is made of `like`, another one of the same kind.
    """

    def edit(changes, like=None):
        path = bundle_copy / "programs.pte"
        file = deserialize_pte_binary(path.read_bytes())
        plans = file.program.execution_plan
        for old, new in (like or {}).items():
            plans += [renamed(plan, old, new) for plan in plans if plan.name.startswith(old)]
        for name, change in changes.items():
            [plan] = [plan for plan in plans if plan.name == name]
            values = [plan.values[place].val for place in plan.outputs]
            values = change([getattr(v, "string_val", getattr(v, "int_val", None)) for v in values])
            plan.values = [EValue(String(v) if isinstance(v, str) else Int(v)) for v in values]
            plan.outputs = list(range(len(values)))
        path.write_bytes(bytes(serialize_pte_binary(file)))
        tell_identity(bundle_copy)

    return edit


def renamed(plan, old, new):
    copy = type(plan)(**vars(plan))
    copy.name = new + plan.name.removeprefix(old)
    return copy


def without(name):
    return lambda names: [other for other in names if other != name]


def instead(name, other):
    return lambda names: [other if n == name else n for n in names]


def becomes(*values):
    return lambda _: list(values)


@pytest.fixture
def refused(case, bundle_copy, tmp_path):
    """Return a function that trains on the bundle and returns the part of the error behind it."""

    def message():
        said = error_of("train", **case.options(tmp_path / "run", bundle=bundle_copy))
        assert said.startswith(f"error: bundle {bundle_copy}"), said
        return said.removeprefix(f"error: bundle {bundle_copy}").lstrip(": ")

    return message


def test_programs_that_are_written_again_unchanged_are_taken(case, craft, bundle_copy, tmp_path):
    before = (bundle_copy / "programs.pte").read_bytes()
    craft({"block_kinds": lambda kinds: kinds})
    assert (bundle_copy / "programs.pte").read_bytes() == before
    run("train", **case.options(tmp_path / "run", bundle=bundle_copy, steps=1))


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        ("block_backward", instead("grad", "hidden"), "returns the unknown 'hidden'"),
        ("block_backward", instead("grad", "loss"), "returns the unknown 'loss'"),
        ("block_backward", instead("grad", f"gradient:{Q_PROJ}"), f"twice 'gradient:{Q_PROJ}'"),
        ("block_backward", instead(f"gradient:{UP_PROJ}", "grad"), "returns twice 'grad'"),
        ("block_backward", instead(f"gradient:{UP_PROJ}", "gradient:x"), "unknown 'gradient:x'"),
        ("block_backward", without("grad"), "returns no 'grad'"),
        ("block_backward", without(f"gradient:{UP_PROJ}"), f"returns no 'gradient:{UP_PROJ}'"),
        ("block_forward", instead("hidden", "grad"), "returns the unknown 'grad'"),
        ("head_backward", without("grad"), "returns no 'grad'"),
        ("head_backward", instead("loss", "grad"), "returns twice 'grad'"),
        ("embed", instead("hidden", "loss"), "returns the unknown 'loss'"),
        ("head_loss", becomes(), "returns no 'loss'"),
    ],
)
def test_outputs_are_all_there_once(craft, refused, method, change, message):
    craft({f"{method}_outputs": change})
    said = refused()
    assert said.startswith(f"{method} returns ") and message in said, said
    assert said.endswith("Export it again")


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        ("embed", instead("tokens", f"adapter:{Q_PROJ}"), f"unknown input 'adapter:{Q_PROJ}'"),
        ("block_forward", instead("hidden", "grad"), "unknown input 'grad'"),
        ("block_backward", instead("grad", "loss"), "unknown input 'loss'"),
        ("head_loss", instead("labels", "grad_scale"), "unknown input 'grad_scale'"),
    ],
)
def test_inputs_that_a_method_is_not_given(craft, refused, method, change, message):
    craft({f"{method}_inputs": change})
    assert refused().startswith(f"{method} has the {message}")


def test_an_adapter_that_comes_twice(craft, refused):
    twice = instead(f"adapter:{UP_PROJ}", f"adapter:{Q_PROJ}")
    craft({"block_forward_inputs": twice, "block_backward_inputs": twice})
    assert refused().startswith(f"block_forward has the input adapter:{Q_PROJ} twice")


def test_a_backward_with_other_adapters_than_its_forward(craft, refused):
    craft(
        {
            "block_backward_inputs": without(f"adapter:{UP_PROJ}"),
            "block_backward_outputs": without(f"gradient:{UP_PROJ}"),
        }
    )
    assert refused().startswith("the adapters of block_backward are not those of its forward")


def test_a_backward_that_reads_what_its_forward_does_not_keep(craft, refused):
    craft({"block_backward_inputs": instead("start", "kept")})
    assert refused().startswith("block_backward reads more than what its forward keeps")


def test_a_kind_of_blocks_that_lost_its_adapters(craft, case, bundle_copy, tmp_path):
    """Kinds without adapters are legitimate, but not with programs that are given some."""
    names = {"plain_forward_inputs": lambda names: [n for n in names if "adapter:" not in n]}
    kinds = {"block_kinds": becomes("plain", "block"), "layer_kinds": becomes("011")}
    craft(names | kinds, like={"block_forward": "plain_forward"})
    said = error_of("train", **case.options(tmp_path / "run", bundle=bundle_copy))
    assert "plain_forward_t" in said and "Export" in said, said


@pytest.mark.parametrize(
    ("kinds", "layers", "message"),
    [
        (["block"], "00", "does not say of which kind each of its 3 layers is"),
        (["block"], "0000", "does not say of which kind"),
        (["block"], "010", "does not say of which kind"),
        (["block"], "0/0", "does not say of which kind"),
        (["block"], "0a0", "does not say of which kind"),
        (["block", "block"], "010", "has two kinds of blocks named 'block'"),
        (["block", "other"], "000", "has no layer of the kind 'other'"),
        ([f"kind{i}" for i in range(11)], "000", "has 11 kinds of blocks, this runtime knows 10"),
    ],
)
def test_kinds_of_blocks_and_layers_disagree(craft, refused, kinds, layers, message):
    craft({"block_kinds": becomes(*kinds), "layer_kinds": becomes(layers)})
    assert refused().startswith(message)


@pytest.mark.parametrize(
    "number", ["nan", "inf", "-inf", "1e60", "0.5x", "0.5 ", " 0.5", "0x1p-1", "0,5", "", "half"]
)
def test_numbers_that_are_none(craft, refused, number):
    craft({"head_backward_inputs": instead("grad_scale", f"scalar:{number}")})
    assert refused().startswith(f"the input 'scalar:{number}' is not one number")


def test_a_number_is_taken_as_it_is_written(case, craft, bundle_copy, tmp_path):
    craft({"head_backward_inputs": instead("grad_scale", "scalar:-2.5e-1")})
    run("train", **case.options(tmp_path / "run", bundle=bundle_copy, steps=1))
