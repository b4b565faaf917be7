"""Steps of B alone, in every lowering: bundles are those of the other tests here."""

import pytest
from safetensors.numpy import load_file

from tests.oracle.rows import mixed_rows
from tests.oracle.test_engine import Case
from tests.support.trainer import run_trainer

MODELS = [
    ("llama", True, "mesp"), ("llama", True, "mebp"), ("phi3", False, "mesp"),
    ("llama", True, "ms-bp"), ("phi3", False, "approx-bp"),
]  # fmt: skip
OPTIONS = {"steps": 1, "optimizer": "sgd", "grad-accum": 2, "threads": 2, "order": "sequential"}


def trained(case, **options):
    run = case.folder / f"run-{len(list(case.folder.iterdir()))}"
    words = [
        word for name, value in {**OPTIONS, **options}.items() for word in (f"--{name}", value)
    ]
    run_trainer("train", *case.arguments(), "--out", run, *words)
    return load_file(run / "adapter_model.safetensors")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: "-".join(map(str, model)))
def test_a_step_of_b_is_that_of_a_step_of_both(make_bundle, tmp_path, model):
    """The gradient of B has the same bits, whether A has one or not; A keeps its own."""
    case = Case(make_bundle(*model), tmp_path, mixed_rows(24, 150))
    before = trained(case, lr=0.0)
    both, alone = trained(case, lr=0.1), trained(case, lr=0.1, freeze="a")
    for name, values in alone.items():
        is_a = ".lora_A." in name
        assert values.tobytes() == (before if is_a else both)[name].tobytes(), name
        assert both[name].tobytes() != before[name].tobytes(), name
