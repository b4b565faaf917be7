"""Budgets: the fastest that fits, nothing fixed touched, and the truth when nothing fits."""

from dataclasses import replace

import pytest

from toolkit.errors import ToolkitError
from toolkit.planning.commands import commands
from toolkit.planning.model import Model, open_model
from toolkit.planning.predict import Planner
from toolkit.planning.report import describe, speed_sentence
from toolkit.planning.search import RESERVE, Proposal, propose
from toolkit.planning.settings import Machine
from toolkit.planning.sizes import parse_size


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("smollm2-135m")


@pytest.fixture(scope="module")
def planner(model: Model) -> Planner:
    return Planner(model)


def ask(planner: Planner, model: Model, megabytes: float, *fixed: str, **settings) -> Proposal:
    asked = replace(model.settings, **settings)
    return propose(planner, asked, Machine(), int(megabytes * 1e6), {*fixed, *settings})


def test_the_fastest_of_all_that_fit(planner: Planner, model: Model) -> None:
    proposal = ask(planner, model, 500)
    assert proposal.relaxed == [] and len(proposal.others) == 3
    seconds = [p.seconds for p in (proposal.best, *proposal.others)]
    assert seconds == sorted(seconds)
    assert proposal.best.settings.checkpoints == "ram"
    assert not proposal.best.checkpoints.spilled


def test_a_smaller_budget_moves_checkpoints_first(planner: Planner, model: Model) -> None:
    in_ram = min(
        planner.predict(replace(model.settings, lowering=m, checkpoints="ram"), Machine()).peak
        for m in ("mesp", "mebp")
    )
    proposal = ask(planner, model, in_ram / 1e6)
    assert proposal.best.peak <= (1 - RESERVE) * proposal.budget
    assert proposal.relaxed == [] and proposal.best.checkpoints.spilled


def test_a_step_is_computed_twice_where_all_gradients_do_not_fit(
    planner: Planner, model: Model
) -> None:
    asked = replace(model.settings, checkpoints="spill", max_grad_norm=1.0)
    kept, twice = (
        planner.predict(replace(asked, clipping=clipping), Machine())
        for clipping in ("keep", "twice")
    )
    assert twice.written == 2 * kept.written
    assert sum(p.seconds for p in twice.phases[:-1]) == pytest.approx(
        2 * sum(p.seconds for p in kept.phases[:-1])
    )
    proposal = ask(planner, model, (kept.peak - 1) / (1 - RESERVE) / 1e6, max_grad_norm=1.0)
    assert proposal.relaxed == [] and proposal.best.settings.clipping == "twice"
    assert proposal.best.memory["gradients"] < kept.memory["gradients"] / 10
    *_, train = commands(model, proposal.best.settings, None)
    assert "--max-grad-norm 1 --clipping twice" in train
    fixed = ask(planner, model, (kept.peak - 1) / (1 - RESERVE) / 1e6, clipping="keep",
                max_grad_norm=1.0)  # fmt: skip
    assert fixed.relaxed != []


def test_relaxed_as_little_as_possible(planner: Planner, model: Model) -> None:
    proposal = ask(planner, model, 27)
    assert proposal.relaxed == ["optimizer"]
    assert proposal.best.settings.optimizer == "sgd"
    assert proposal.asked.peak > proposal.budget
    nearer = ask(planner, model, 38)
    assert nearer.relaxed == ["optimizer"] and nearer.best.settings.optimizer == "adamw-8bit"
    proposal = ask(planner, model, 35, optimizer="adamw", state="ram")
    assert "optimizer" not in proposal.relaxed and proposal.best.settings.optimizer == "adamw"
    assert proposal.best.settings.alpha == 2 * proposal.best.settings.rank


def test_the_state_goes_to_storage_where_nothing_cheaper_may_change(
    planner: Planner, model: Model
) -> None:
    proposal = ask(planner, model, 28, optimizer="adamw", seq_len=256, rank=8)
    assert proposal.relaxed == ["state"] and proposal.best.state.spilled
    best, asked = proposal.best, proposal.asked
    assert best.state.written == asked.memory["adapters"] + asked.memory["optimizer"]
    assert best.written == best.state.written + best.checkpoints.written
    assert best.memory["adapters"] * 20 < asked.memory["adapters"]
    assert "--state spill" in commands(model, best.settings, None)[-1]
    assert "state on flash" in describe(best)
    assert "in a night of eight hours; --optimizer adamw-8bit" in speed_sentence(best)
    short = replace(Machine(), available=4 * (asked.memory["optimizer"] + 1))
    assert planner.predict(model.settings, short).state.spilled
    ample = replace(short, available=8 * asked.memory["optimizer"])
    assert not planner.predict(model.settings, ample).state.spilled


def test_nothing_fits_and_by_how_much(planner: Planner, model: Model) -> None:
    proposal = ask(planner, model, 8)
    assert proposal.best is None
    smallest = proposal.smallest
    assert smallest.settings.seq_len == 64
    assert smallest.state.spilled  # which the optimizer does not matter to
    assert proposal.missing == pytest.approx(smallest.peak - 8e6 * (1 - RESERVE), abs=1)
    enough = int(smallest.peak / (1 - RESERVE)) + 1
    again = propose(planner, model.settings, Machine(), enough, ())
    assert again.best is not None


def test_what_is_fixed_stays(planner: Planner, model: Model) -> None:
    fixed = {"lowering": "mebp", "checkpoints": "ram", "seq_len": 256, "rank": 8}
    proposal = ask(planner, model, 10, "optimizer", **fixed)
    assert proposal.best is None
    assert all(getattr(proposal.smallest.settings, k) == v for k, v in fixed.items())


def test_approximate_gradients_are_never_proposed_nor_left_unsaid(
    planner: Planner, model: Model
) -> None:
    usual = ask(planner, model, 500)
    assert {p.settings.lowering for p in (usual.best, *usual.others)} == {"mesp", "mebp"}
    asked = replace(model.settings, lowering="approx-bp")
    proposal = propose(planner, asked, Machine(), 500_000_000, ())
    assert {p.settings.lowering for p in (proposal.best, *proposal.others)} == {"approx-bp"}
    assert describe(proposal.best).startswith("approx-bp (approximate gradients), ")


def test_commands_say_what_was_planned(model: Model) -> None:
    settings = replace(model.settings, seq_len=128, optimizer="sgd", sequences=4)
    export, data, deploy, train = commands(model, settings, "local")
    assert export.startswith("toolkit export HuggingFaceTB/SmolLM2-135M-Instruct -o ")
    assert "--seq-len 128 --rank 8 --alpha 16 --lowering mesp" in export
    assert "--seq-len 128" in data and data.startswith("toolkit data chats.jsonl --bundle ")
    assert "--device local" in deploy and deploy.split()[4] == data.split()[-1]
    assert "--optimizer sgd --checkpoints auto --grad-accum 4" in train
    export, *_, train = commands(model, replace(settings, batch_size=2), "local")
    assert "--seq-len 128 --seq-len 256 --rank 8" in export
    assert "--batch-size 2 --checkpoints auto --grad-accum 2" in train


def test_sizes() -> None:
    assert parse_size("100MB") == 100_000_000
    assert parse_size(" 1.5 GB ") == 1_500_000_000
    assert parse_size("96MiB") == 96 << 20
    assert parse_size("12345678B") == 12_345_678
    for text in ("30", "12345678", " 1.5 "):
        with pytest.raises(ToolkitError, match=r"has no unit\. Write it as .*MB"):
            parse_size(text)
    for text in ("", "MB", "-5MB", "0MB", "1e9", "5 apples", "1" * 30 + "B"):
        with pytest.raises(ToolkitError, match="is not a size"):
            parse_size(text)
