"""Sessions that end before their run, and saved states that take another adapter."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.runtime.running import error_of, records, run
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.flat_tensor import FlatTensorReader, write_flat_tensor
from toolkit.replaying.estimates import read_estimates
from toolkit.replaying.replay import replay

PREFIX = "base_model.model.model."
ADAMW = {"optimizer": "adamw", "lr": 0.01, "schedule": "cosine", "warmup_steps": 2}
SETTINGS = {
    "adamw": ADAMW | {"grad_accum": 2},
    "spilled": ADAMW | {"state": "spill", "max_grad_norm": 0.5},
    "sgd": {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9},
    "mezo": {"method": "mezo", "lr": 0.002, "zo_eps": 0.01},
}


def adapter_bytes(out):
    return (out / "adapter_model.safetensors").read_bytes()


def write_ptd(case, out, path, scale=1.0):
    """Write the adapter of a run as an adapter .ptd, its values `scale` times as large."""
    specs = Bundle.open(case.bundle).adapter.specs()
    own = load_file(out / "adapter_model.safetensors")
    write_flat_tensor(path, specs, (own[PREFIX + spec.name] * scale for spec in specs))
    return path


@pytest.mark.parametrize("name", SETTINGS)
def test_sessions_that_hand_back_the_same_adapter_are_one_run(case, tmp_path, name):
    """Its bits: what the optimizer remembers and the place in the data are kept."""
    settings = SETTINGS[name] | {"steps": 9}
    whole = case.train(tmp_path / "whole", **settings)
    out = case.train(tmp_path / "run", until=3, **settings)
    assert records(out, "end")[0]["status"] == "stopped"
    for at in (3, 6):
        adapter = write_ptd(case, out, tmp_path / f"{at}.ptd")
        taken = {"take_adapter": adapter, "take_at": at, "until": at + 3}
        case.train(out, resume=True, **taken, **settings)
    assert adapter_bytes(out) == adapter_bytes(whole)
    assert [s["loss"] for s in records(out, "step")] == case.losses(whole)
    ends = [end["status"] for end in records(out, "end")]
    assert ends == ["stopped", "stopped", "completed"]
    assert [e["event"] for e in records(out, "event")].count("adapter_taken") == 2


@pytest.mark.parametrize("state", ["ram", "spill"])
def test_the_adapter_that_was_taken_is_what_goes_on(case, tmp_path, state):
    """With a rate of 0 the adapter saved at the end is the one taken, to the bit."""
    out = case.train(tmp_path / "run", steps=4, until=2, lr=0.01, state=state)
    adapter = write_ptd(case, out, tmp_path / "other.ptd", scale=0.5)
    case.train(out, steps=4, resume=True, take_adapter=adapter, lr=0, state=state)
    reader = FlatTensorReader(adapter)
    half = {PREFIX + name: reader.tensor(name) for name in reader}
    saved = load_file(out / "adapter_model.safetensors")
    assert saved.keys() == half.keys()
    assert all(torch.equal(saved[name], half[name]) for name in half)
    assert records(out, "run")[1]["bundle"]["adapter_sha256"] == reader.sha256().hex()


def test_the_same_command_again_takes_nothing_twice(case, tmp_path):
    """As after an answer that was lost: the steps since are kept, and the bits are as without."""
    settings = ADAMW | {"steps": 8, "save_every": 1}
    out = case.train(tmp_path / "run", until=3, **settings)
    adapter = write_ptd(case, out, tmp_path / "other.ptd", scale=0.5)
    taken = {"take_adapter": adapter, "take_at": 3, "resume": True}
    case.train(out, until=5, **taken, **settings)  # cut off two steps after it
    case.train(out, until=7, **taken, **settings)
    ended = adapter_bytes(out), (out / "state.bin").read_bytes()
    case.train(out, until=7, **taken, **settings)
    assert (adapter_bytes(out), (out / "state.bin").read_bytes()) == ended
    whole = case.train(tmp_path / "whole", until=3, **settings)
    case.train(whole, until=7, **taken, **settings)
    assert ended == (adapter_bytes(whole), (whole / "state.bin").read_bytes())


def test_without_a_step_the_same_command_again_takes_nothing_twice(case, tmp_path):
    settings = ADAMW | {"steps": 8, "save_every": 1}
    out = case.train(tmp_path / "run", until=3, **settings)
    adapter = write_ptd(case, out, tmp_path / "other.ptd", scale=0.5)
    taken = {"take_adapter": adapter, "resume": True}
    case.train(out, until=5, **taken, **settings)
    case.train(out, until=7, **taken, **settings)
    whole = case.train(tmp_path / "whole", until=3, **settings)
    case.train(whole, until=7, **taken, **settings)
    assert adapter_bytes(out) == adapter_bytes(whole)
    events = {event["event"]: event.get("detail") for event in records(out, "event")}
    assert events["adapter_kept"] == "taken after step 3 already; --take-at 5 takes it again"
    case.train(out, until=8, take_at=7, **taken, **settings)
    case.train(whole, until=8, resume=True, **settings)
    assert adapter_bytes(out) != adapter_bytes(whole)


def test_what_cannot_be_taken_is_refused_and_changes_nothing(case, tmp_path):
    settings = {"steps": 4, "lr": 0.01}
    out = case.train(tmp_path / "run", until=2, **settings)
    adapter = write_ptd(case, out, tmp_path / "other.ptd", scale=0.5)
    before = adapter_bytes(out), (out / "state.bin").read_bytes()

    def refusal(code=1, **options):
        given = case.options(out, **settings | {"resume": True, "take_adapter": adapter} | options)
        return error_of("train", code, **given)

    message = refusal(take_at=1)
    assert "was saved after step 2, and" in message and "Resume with --take-at 2" in message
    assert "nothing to take" in refusal(steps=2)
    assert "Give both, or neither" in refusal(2, take_adapter=None, take_at=2)
    assert "no saved state to take an adapter into" in error_of(
        "train", **case.options(tmp_path / "new", **settings, take_adapter=adapter)
    )
    assert (adapter_bytes(out), (out / "state.bin").read_bytes()) == before


def test_without_the_option_a_resumed_run_keeps_its_adapter(case, tmp_path):
    settings = ADAMW | {"steps": 6}
    whole = case.train(tmp_path / "whole", **settings)
    out = case.train(tmp_path / "run", until=3, **settings)
    other = write_ptd(case, out, tmp_path / "other.ptd", scale=0.5)
    case.train(out, resume=True, **settings | {"adapter": other})
    assert adapter_bytes(out) == adapter_bytes(whole)


def test_a_list_of_estimates_goes_on_from_the_adapter_taken(case, tmp_path):
    settings = SETTINGS["mezo"] | {"steps": 6}
    out = case.train(tmp_path / "run", until=2, **settings)
    adapter = write_ptd(case, out, tmp_path / "other.ptd", scale=0.5)
    case.train(out, resume=True, take_adapter=adapter, **settings)
    estimates = read_estimates(out)
    assert estimates.before == 2 and [e.step for e in estimates.steps] == [3, 4, 5, 6]
    reader = FlatTensorReader(adapter)
    assert estimates.adapter_sha256 == reader.sha256().hex()
    start = {name: reader.tensor(name).numpy() for name in reader}
    again = replay(estimates, start, 3, 4)
    saved = load_file(out / "adapter_model.safetensors")
    assert all(np.array_equal(again[n], saved[PREFIX + n].numpy()) for n in again)


def test_the_end_of_a_session_is_no_end_of_the_run(case, tmp_path):
    """Beyond the run's steps it is the run's end; before what is done nothing is computed."""
    out = case.train(tmp_path / "run", steps=4, until=9)
    assert records(out, "end")[0]["status"] == "completed"
    out = case.train(tmp_path / "short", steps=4, until=3)
    state = (out / "state.bin").read_bytes()
    run("train", **case.options(out, steps=4, until=2, resume=True))
    assert (out / "state.bin").read_bytes() == state
    assert [s["step"] for s in records(out, "step")] == [1, 2, 3]


def test_the_same_adapter_taken_twice_is_in_the_list_of_estimates(case, tmp_path):
    settings = SETTINGS["mezo"] | {"steps": 6}
    out = case.train(tmp_path / "run", until=2, **settings)
    adapter = write_ptd(case, out, tmp_path / "other.ptd", scale=0.5)
    taken = {"take_adapter": adapter, "resume": True}
    case.train(out, until=4, take_at=2, **taken, **settings)
    case.train(out, until=5, take_at=4, **taken, **settings)
    case.train(out, resume=True, **settings | {"weight_decay": 0.01})  # a session that takes none
    estimates = read_estimates(out)
    assert estimates.before == 4 and [e.step for e in estimates.steps] == [5, 6]
    reader = FlatTensorReader(adapter)
    start = {name: reader.tensor(name).numpy() for name in reader}
    again = replay(estimates, start, 3, 2)
    saved = load_file(out / "adapter_model.safetensors")
    assert all(np.array_equal(again[n], saved[PREFIX + n].numpy()) for n in again)
