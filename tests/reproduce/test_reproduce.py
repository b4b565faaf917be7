"""The reproductions, really run on a tiny model: only where a bundle comes from is another."""

import json
import math
import subprocess
from pathlib import Path

import pytest

from tests.support.bundles import export_tiny, export_with_tokenizer
from toolkit.bundle.manifest import read_manifest
from toolkit.data.dataset import random_rows, write_rows
from toolkit.trace.reader import read_trace
from tools.bench import harness
from tools.reproduce import (
    common,
    convergence,
    cosine,
    federation,
    largest_model,
    learning,
    memory_and_length,
    mezo_and_mebp,
    optimizers,
    selected_layers,
)

LENGTHS = (8, 24)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], harness.Case]:
    folder = tmp_path_factory.mktemp("tiny")
    cases = {}
    for lowering in {*memory_and_length.LOWERINGS, *memory_and_length.KEPT}:
        bundle = export_tiny(folder / lowering, "llama", lowering=lowering, seq_lens=LENGTHS)
        for length in LENGTHS:
            data = folder / f"{length}.ptd"
            write_rows(data, random_rows(4, length, 150, 0))
            cases[length, lowering] = harness.Case(bundle, data)
    return cases


@pytest.fixture
def output(
    tiny: dict[tuple[int, str], harness.Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    def case(model: str, seq_len: int = 256, lowering: str = "mesp") -> harness.Case:
        return tiny[seq_len, lowering]

    monkeypatch.setattr(harness, "case", case)
    return tmp_path / "results"


def results(output: Path, name: str) -> dict[str, dict[str, object]]:
    assert (output / f"{name}.png").stat().st_size > 5000
    return json.loads((output / f"{name}.json").read_text())["results"]


def test_the_table_of_mezo_and_mebp(output: Path) -> None:
    words = ["tiny", "--seq-len", "24", "--steps", "2", "--rounds", "1", "--output", str(output)]
    assert mezo_and_mebp.main(words) == 0
    found = results(output, "mezo_and_mebp")
    assert [key.split()[2] for key in found] == list(mezo_and_mebp.METHODS)
    assert all(row["value"]["seconds"] > 0 for row in found.values())


def test_memory_grows_with_length_and_losses_are_equal(output: Path) -> None:
    words = ["--model", "tiny", "--lengths", "8", "24", "--steps", "2", "--long", "5"]
    words += ["--learns", "tiny", "--larger", "tiny", "--seq-len", "24", "--rounds", "2"]
    words += ["--output", str(output)]
    assert memory_and_length.main(words) == 0
    assert len(results(output, "memory_and_length")) == 10


def test_the_cosine_is_what_theory_expects(
    talking: harness.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, output = tmp_path / "rows.ptd", tmp_path / "results"
    write_rows(data, random_rows(4, 32, 150, 0), read_manifest(talking.bundle)["tokenizer"])
    monkeypatch.setattr(harness, "case", lambda model, seq_len: harness.Case(talking.bundle, data))
    words = ["--model", "tiny", "--seq-len", "32", "--directions", "128", "--output", str(output)]
    assert cosine.main(words) == 0
    [found] = [row["value"] for row in results(output, "cosine").values()]
    assert found["queries"] == [2**i for i in range(8)]
    theory = math.sqrt(128 / (128 + found["dimensions"]))
    # The square of a cosine is q / d times a chi-squared of q over q, whose deviation is sqrt(2/q).
    assert found["cosines"][-1] == pytest.approx(theory, rel=0.4)


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    first = common.Results(tmp_path, "any")
    assert first.of("key", lambda: 1) == 1
    again = common.Results(tmp_path, "any")
    assert again.of("key", lambda: 2) == 1
    with pytest.raises(ZeroDivisionError):
        again.of("other", lambda: 1 / 0)
    assert set(common.Results(tmp_path, "any").values) == {"key"}


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> harness.Case:
    folder = tmp_path_factory.mktemp("talking")
    return harness.Case(export_with_tokenizer(folder / "bundle"), folder / "none")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results whose corpora are made once."""
    folder = tmp_path_factory.mktemp("kept")
    with (folder / "chats.jsonl").open("w") as file:
        for i in range(200):
            turns = [{"role": "user", "content": f"hello {i}"}]
            turns.append({"role": "assistant", "content": f"good day, number {i}"})
            file.write(json.dumps({"messages": turns}) + "\n")
    return folder


@pytest.fixture
def learning_words(talking: harness.Case, kept: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(harness, "case", lambda model, seq_len: talking)
    words = ["--chats", str(kept / "chats.jsonl"), "--characters", "6000", "--held-out", "2"]
    return [*words, "--seq-len", "32", "--output", str(kept)]


def test_convergence(
    learning_words: list[str], kept: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--steps", "4", "--zo-steps", "4", "--every", "2", "--zo-every", "2", "--equal", "2"]
    words += ["--grid-steps", "2", "--zo-grid-steps", "2", "--rates", "0.01", "0.02"]
    words += [
        "--zo-rates",
        "1e-9",
        "1e-8",
        "--methods",
        "exact",
        "mezo",
        "--corpora",
        "text",
        "chats",
    ]
    assert convergence.main([*learning_words, *words]) == 0
    found = results(kept, "convergence")
    assert len(found) <= 2 * ((2 + 1) + (2 + 2))
    exact = [row["value"] for key, row in found.items() if "exact" in key and "every 2" in key]
    assert [run["steps"] for run in exact] == [[0, 2, 4]] * 2
    assert all(run["losses"][-1] < run["losses"][0] for run in exact)
    assert all(0 < run["seconds"][1] < run["seconds"][2] for run in exact)
    # Steps that hardly move anything are not as good as exact ones.
    assert "not within 4" in capfd.readouterr().err
    # Nor are they at the second best rate, which was tried then.
    assert sum("mezo" in key and "every 2" in key for key in found) > 2


def test_a_curve_ends_where_its_target_is_reached(learning_words: list[str], kept: Path) -> None:
    options = learning.parser("").parse_args(learning_words)
    data = learning.corpus(options, "text")
    flags = ["--optimizer", "adamw", "--lr", "0.01"]
    whole = learning.learn(options, data, flags, steps=6, every=1)
    target = whole["losses"][2]
    found = learning.learn(options, data, flags, steps=6, every=1, target=target)
    assert found["losses"] == whole["losses"][: 1 + found["steps"][-1]]
    assert 1 <= found["steps"][-1] <= 2 and min(found["losses"]) <= target
    unreached = learning.learn(options, data, flags, steps=3, every=2, target=0.0)
    assert unreached["steps"] == [0, 2, 3]


def test_as_good_as() -> None:
    run = {"losses": [3.0, 2.5, 2.6, 2.0]}
    assert convergence.reached_at(run, 2.5) == 1
    assert convergence.reached_at(run, 1.9) is None


def test_a_run_that_was_stopped_goes_on(
    learning_words: list[str], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = learning.parser("").parse_args(learning_words)
    data = learning.corpus(options, "text")
    flags = ["--optimizer", "adamw", "--lr", "0.01"]
    whole = learning.learn(options, data, flags, steps=5, every=1)
    run = subprocess.run

    def stopped(command: list[str], **more: object) -> None:
        run([*command, "--until", "2"], check=True, stdout=subprocess.DEVNULL)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            learning.learn(options, data, flags, steps=5, every=1)
    [folder] = (kept / "runs").iterdir()
    with pytest.raises(SystemExit, match="stopped before its end"):
        learning._found(folder, None, steps=5)
    assert [row.step for row in read_trace(folder).evaluations] == [0, 1, 2]
    again = learning.learn(options, data, flags, steps=5, every=1)
    assert (again["steps"], again["losses"]) == (whole["steps"], whole["losses"])
    assert whole["steps"] == list(range(6))
    assert not list((kept / "runs").iterdir())


def test_a_rate_that_ends_its_runs_is_not_the_best() -> None:
    assert learning.best([(0.1, 2.0), (0.2, math.inf), (0.3, 1.5)]) == 0.3
    with pytest.raises(SystemExit, match="all learning rates"):
        learning.best([(0.1, math.inf)])


def test_selected_layers(learning_words: list[str], kept: Path) -> None:
    words = ["--blocks", "1", "--steps", "2", "--every", "1", "--grid-steps", "1"]
    words += ["--rates", "0.01", "--rounds", "2", "--turn-steps", "2"]
    assert selected_layers.main([*learning_words, *words]) == 0
    ways = selected_layers.ways(1)
    assert len(results(kept, "selected_layers")) == len(ways) * (1 + 1 + 2)


def test_optimizers(learning_words: list[str], kept: Path) -> None:
    words = ["--optimizers", "sgd", "adamw", "--steps", "2", "--every", "2", "--grid-steps", "1"]
    assert optimizers.main([*learning_words, *words]) == 0
    found = results(kept, "optimizers")
    sizes = {key: row["value"]["state_mb"] for key, row in found.items() if "memory" in key}
    sgd, adamw = (next(v for k, v in sizes.items() if f"memory of {n}," in k) for n in words[1:3])
    assert sgd == 0 < adamw


def test_a_federation_of_people(
    talking: harness.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "case", lambda model, seq_len: talking)
    turns = [(person, f"guest {i} of {person}", i) for person in ("ann", "ben") for i in range(20)]
    chats = {
        f"{person} {i}": {"messages": [
            [{"text": f"hello {person}", "sender": other}],
            [{"text": f"good day, number {i}", "sender": person}, {"text": "!", "sender": person}],
        ]}
        for person, other, i in [("ann", "ben", 99), *turns, ("ann", "guest", 98)]
    }  # fmt: skip
    (tmp_path / "chats.json").write_text(json.dumps(chats))
    words = ["--dataset", str(tmp_path / "chats.json"), "--people", "2", "--chats", "30"]
    words += ["--seq-len", "32", "--rounds", "2", "--local-steps", "1", "--held-out", "2"]
    words += ["--lr", "0.02", "--threads", "1", "--output", str(tmp_path)]
    people = federation._people(federation._options(words))
    assert {name: len(own) for name, own in people.items()} == {"person-1": 22, "person-2": 20}
    assert people["person-1"][0][1] == {"role": "assistant", "content": "good day, number 99\n!"}
    assert federation.main(words) == 0
    found = {
        key.split(": ")[1]: row["value"] for key, row in results(tmp_path, "federation").items()
    }
    assert len(found) == 5
    before = found.pop("as exported")
    assert all(losses["everybody"] < before["everybody"] for losses in found.values())
    alone = (found["person-1 alone"], found["person-2 alone"])
    assert found["federation"] not in alone and not (tmp_path / "federation").exists()


def test_pareto() -> None:
    points = {"a": (1.0, 3.0), "b": (2.0, 2.0), "c": (2.0, 2.5), "d": (2.0, 2.0), "e": (3.0, 1.0)}
    assert optimizers.pareto(points) == ["a", "b", "d", "e"]


def test_the_largest_model(tmp_path: Path) -> None:
    words = ["smollm2-135m", "--seq-len", "24", "--measure", "--budgets", "50", "900"]
    assert largest_model.main([*words, "--output", str(tmp_path)]) == 0
    [found] = [row["value"] for row in results(tmp_path, "largest_model").values()]
    sizes = found["megabytes"]
    assert found["billions"] == pytest.approx(0.1345, rel=0.01)
    assert max(sizes["here, mezo"], sizes["here, exact"]) < 20
    assert sizes["MeZO, 16-bit weights"] > 2 * 134.5
    assert sizes["backpropagation, 16-bit weights"] > sizes["MeZO, 16-bit weights"]
    # Weights of 16 bits take twice the parameters, those of the bundle half of them to a byte each.
    spared = sizes["backpropagation, 16-bit weights"] - sizes["backpropagation, 4-bit weights"]
    assert 134.5 < spared < 1.5 * 134.5


def test_a_prediction_beside_a_run() -> None:
    def of(megabytes: float) -> dict[str, list[largest_model.Point]]:
        return {"here": [largest_model.Point("model", 1.0, megabytes)]}

    assert largest_model._compare(of(100.0), of(97.0)) == pytest.approx(0.03)
    small, large = largest_model.Point("a", 1.0, 10.0), largest_model.Point("b", 2.0, 20.0)
    assert largest_model.largest([small, large], 19.0) is small
    assert largest_model.largest([small, large], 9.0) is None
