"""The cases every kernel runs, exported once, with float64 references."""

from dataclasses import dataclass

import pytest
from executorch.runtime import Program
from torch import Tensor

from tests.runtime.kernels.native import execute, export_calls, library
from tests.support.operators import Sizes, arguments, in_double
from tests.support.programs import outputs_of
from toolkit.ops import OPERATORS

CASES = {
    "one_token": Sizes(t=1, heads=1, kv_heads=1, rank=1, vocab=16),
    "tails": Sizes(
        t=37,
        d=96,
        f=288,
        heads=6,
        head_dim=10,
        groups=4,
        rank=8,
        vocab=530,
        scheme="int4-symmetric",
        seed=1,
    ),
    "blocks": Sizes(
        t=257,
        d=64,
        f=160,
        heads=2,
        kv_heads=1,
        head_dim=80,
        rank=17,
        vocab=1100,
        scheme="int8",
        bias=False,
        adapters="up",
        packed=False,
        seed=2,
    ),
    "deep": Sizes(
        t=5, d=1056, f=1088, head_dim=128, rank=40, vocab=48, adapters="gate down", seed=3
    ),
    "split": Sizes(t=80, d=1152, f=1152, head_dim=128, rank=48, vocab=48, seed=5),
    "long": Sizes(t=1100, heads=2, kv_heads=1, head_dim=16, seed=4),
    "window": Sizes(t=1100, heads=2, kv_heads=1, head_dim=16, window=40, seed=6),
}


def operators_of(case: str) -> list[str]:
    """What a case is for: attention over several strips, products over several depth blocks, those
    with enough row blocks to be split between threads."""
    if case in ("long", "window"):
        return [name for name in OPERATORS if name.startswith("attention")]
    if case in ("deep", "split"):
        return [name for name in OPERATORS if "linear" in name or "mlp" in name]
    return list(OPERATORS)


MATRIX = [(case, name) for case in CASES for name in operators_of(case)]


@dataclass(frozen=True)
class Suite:
    """All operators on all cases: arguments, references and the program that runs them."""

    program: Program
    calls: dict[str, dict[str, list]]
    references: dict[str, dict[str, list[Tensor]]]

    def run(self, isa: str, threads: int) -> dict[str, dict[str, list[Tensor]]]:
        """Return outputs by case and operator."""
        assert library().select_isa(isa)
        library().set_threads(threads)
        return {case: execute(self.program, case, calls) for case, calls in self.calls.items()}


def wanted_cases(items: list[pytest.Item]) -> list[str]:
    """Return the cases of the tests that were selected: each takes seconds to export."""
    tests = [item for item in items if "suite" in getattr(item, "fixturenames", ())]
    cases = {item.callspec.params.get("case") for item in tests}
    return [case for case in CASES if case in cases or None in cases]


@pytest.fixture(scope="session")
def suite(request: pytest.FixtureRequest) -> Suite:
    calls = {
        case: {name: arguments(name, CASES[case]) for name in operators_of(case)}
        for case in wanted_cases(request.session.items)
    }
    references = {
        case: {
            name: outputs_of(OPERATORS[name].reference(*in_double(args)))
            for name, args in operators.items()
        }
        for case, operators in calls.items()
    }
    return Suite(export_calls(calls), calls, references)


@pytest.fixture(autouse=True)
def restored_library():
    """Leave the library as it was found."""
    yield
    library().select_isa(library().default_isa)
    library().select_arithmetic("float32")
    library().set_threads(1)
