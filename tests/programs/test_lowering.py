"""What lowering makes of a model: operators, inputs and clear refusals."""

import sys

import pytest
from executorch.exir._serialize._program import deserialize_pte_binary
from transformers import GPT2Config

from tests.support.tiny import tiny_config
from toolkit.errors import ToolkitError
from toolkit.families import FAMILIES, family_of
from toolkit.lora import PROJECTIONS, LoraSettings
from toolkit.planning.arena import arena_bytes
from toolkit.planning.settings import Settings
from toolkit.planning.tracing import trace_programs
from toolkit.programs import build_programs

SCHEMES = {"linear": "int4", "embedding": "int8", "head": "int8"}


def _build(config, **changes):
    settings = {
        "seq_lens": [8],
        "lora": LoraSettings(4, 8.0, PROJECTIONS),
        "lowering": "mesp",
        "schemes": SCHEMES,
        "model_name": "tiny",
        "generation": False,
    }
    return build_programs(config, **(settings | changes))


@pytest.mark.parametrize("lowering", ["mesp", "store-h", "mebp", "approx-bp"])
def test_programs_consist_of_our_operators_only(lowering):
    programs = _build(tiny_config("llama"), lowering=lowering, seq_lens=[8, 16], generation=True)
    kinds = {"embed", "block_forward", "block_backward", "head_loss", "head_backward"}
    generating = {"embed_step", "block_step", "head_logits"}
    trained = {f"{kind}_t{t}" for kind in kinds for t in (8, 16)}
    assert set(programs.methods) == trained | generating
    for name, report in programs.methods.items():
        assert report.operators, name
        assert all(op.startswith("toolkit::") for op in report.operators), (name, report.operators)


def test_nothing_is_lost_without_the_search_for_decompositions(monkeypatch):
    built = _build(tiny_config("llama"), generation=True)
    # By its name in sys.modules: the package has a function of that name.
    module = sys.modules["toolkit.programs.lower"]
    monkeypatch.setattr(module, "undecomposed", lambda program: program)
    assert _build(tiny_config("llama"), generation=True).buffer == built.buffer


def test_backward_recomputes_no_more_than_it_needs():
    """The MLP's forward output is not needed, and mesp keeps less than mebp."""
    mesp, mebp = (_build(tiny_config("llama"), lowering=m, seq_lens=[64]) for m in ("mesp", "mebp"))
    assert "toolkit::swiglu_mlp" not in mesp.methods["block_backward_t64"].operators
    arena = "block_backward_t64"
    assert mesp.methods[arena].arena_bytes < mebp.methods[arena].arena_bytes / 1.5


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_what_is_not_kept_takes_no_memory(family):
    """Of T tokens ms-bp spares the second norm's input, and approx-bp the gate but for two bits."""
    config = tiny_config(family)
    config.intermediate_size = 1024
    settings = [Settings(seq_len=64, lowering=m) for m in ("mebp", "ms-bp", "approx-bp")]
    mebp, ms_bp, approx_bp = (
        arena_bytes(trace_programs(config, s)["block_backward"]) for s in settings
    )
    row, gate = (64 * 4 * n for n in (config.hidden_size, config.intermediate_size))
    assert mebp - ms_bp == row
    spared = gate - gate // 16  # the peak is then at another operator, with h of down_proj
    assert spared - row < ms_bp - approx_bp <= spared


def test_programs_do_not_grow_with_the_model():
    small = _build(tiny_config("qwen2", layers=2))
    large = _build(tiny_config("qwen2", layers=40))
    assert abs(len(large.buffer) - len(small.buffer)) < 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lowering": "magic"}, "Lowering 'magic' is unknown"),
        (
            {"lora": LoraSettings(4, 8.0, ("q_proj", "lm_head"))},
            "LoRA targets lm_head do not exist",
        ),
        ({"schemes": SCHEMES | {"head": "int4"}}, "tied"),
        ({"schemes": SCHEMES | {"linear": "int3"}}, "int3"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ToolkitError, match=message):
        _build(tiny_config("llama"), **changes)


def test_lowering_that_changes_nothing_is_refused_by_the_familys_name():
    with pytest.raises(ToolkitError, match="'ms-bp' changes nothing in the family 'olmo2'"):
        _build(tiny_config("olmo2"), lowering="ms-bp")


def test_unknown_family_is_refused_by_name():
    supported = ", ".join(sorted(FAMILIES))
    with pytest.raises(ToolkitError, match=rf"'gpt2' is not supported.*: {supported}$"):
        family_of(GPT2Config())


def test_unsupported_features_are_refused():
    config = tiny_config("llama")
    config.mlp_bias = True
    with pytest.raises(ToolkitError, match="mlp_bias=True is not supported"):
        family_of(config)
    config = tiny_config("llama")
    config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    with pytest.raises(ToolkitError, match="RoPE type 'dynamic'"):
        _build(config)


def test_products_of_one_input_follow_each_other_in_a_step():
    """Of a few rows the runtime computes those together, as long as nothing comes between."""
    config = tiny_config("qwen3")
    buffer = _build(config, generation=True).buffer
    plans = deserialize_pte_binary(buffer).program.execution_plan
    [step] = [plan for plan in plans if plan.name == "block_step"]
    names = [
        step.operators[instruction.instr_args.op_index].name
        for instruction in step.chains[0].instructions
    ]
    first = names.index("toolkit::lora_linear")
    assert names[first : first + 4] == ["toolkit::lora_linear"] * 3 + ["toolkit::rms_norm"]
