"""SIGKILL at random moments: nothing is lost beyond the last save, and the bits stay the same."""

import os
import random
import subprocess
import time

import pytest

from tests.runtime.cases import RANK_8BIT
from tests.runtime.running import flags, records, run, trainer
from toolkit.settings.methods import METHODS
from toolkit.settings.optimizers import OPTIMIZERS

STEPS = 240
LONGEST_LIFE = 0.25
KILLS = int(os.environ.get("TOOLKIT_SOAK", 0)) or 11
"""A setting's kills; CI's settings together are killed more than 100 times."""
SETTINGS = {
    "adamw-spill": {"optimizer": "adamw", "checkpoints": "spill", "grad_accum": 2, "save_every": 1},
    "adamw-clip": {"optimizer": "adamw", "max_grad_norm": 0.5, "save_every": 3},
    "held-out": {
        "eval_every": 3,
        "keep": "best",
        "patience": 999,
        "save_every": 2,
        "keep_checkpoints": 3,
        "max_samples": 1,
        "lr": 0.001,
    },
    "adamw-8bit": {"optimizer": "adamw-8bit", "save_every": 2, "rank": RANK_8BIT},
    "last-norm": {
        "optimizer": "lomo", "max_grad_norm": 0.5, "clipping": "last-norm", "save_every": 2,
    },
    "state-spill": {
        "optimizer": "adamw", "state": "spill", "max_grad_norm": 0.5, "grad_accum": 2,
        "save_every": 2,
    },
    "apollo": {"optimizer": "apollo", "projection_gap": 5, "save_every": 2, "lr": 0.001},
    "mlorc-spill": {
        "optimizer": "mlorc", "projection_rank": 2, "state": "spill", "save_every": 2,
    },
    "adalomo": {"optimizer": "adalomo", "rms_floor": 0.1, "save_every": 2},
    "lcsb": {
        "method": "lcsb", "blocks": 1, "selection": "importance", "optimizer": "adamw",
        "save_every": 2,
    },
    "mezo": {"method": "mezo", "grad_accum": 2, "save_every": 2, "zo_eps": 0.01},
    "sparse-mezo": {"method": "sparse-mezo", "save_every": 3},
    "mobizo": {"method": "mobizo", "queries": 2, "save_every": 3, "state": "spill"},
    "momentum-threads": {"optimizer": "sgd", "momentum": 0.9, "threads": 2, "save_every": 2},
}  # fmt: skip


PAIR_STEPS, PAIR_KILLS = 40, 2


def pairs():
    """What SETTINGS lack of every method that updates by a gradient with every optimizer, and the
    others, with the state in both places; other options go with them in turns."""
    chosen = {}
    known = {s.get("optimizer") for s in SETTINGS.values() if "method" not in s}
    selected = [name for name, method in METHODS.items() if "blocks" in method.options]
    for i, method in enumerate(["exact", *selected]):
        for j, optimizer in enumerate(OPTIMIZERS):
            if method == "exact" and optimizer in known:
                continue
            settings = {
                "method": method,
                "optimizer": optimizer,
                "state": ("ram", "spill")[(i + j) % 2],
                "checkpoints": ("ram", "spill")[j // 3 % 2],
                "grad_accum": 1 + j // 4 % 2,
            }
            clipping = (None, "keep", "twice", "last-norm")[(i + j // 2) % 4]
            if clipping:
                settings |= {"max_grad_norm": 0.5, "clipping": clipping}
            if method in selected:
                settings |= {"blocks": 1, "selection": ("cyclic", "importance")[j % 2]}
            if optimizer == "adamw-8bit":
                settings["rank"] = RANK_8BIT
            chosen[f"{method}-{optimizer}"] = settings
    for method in (name for name, row in METHODS.items() if row.updates):
        for state in ("ram", "spill"):
            chosen[f"{method}-{state}"] = {"method": method, "state": state, "lr": 1e-4}
    return chosen


PAIRS = pairs()


def final(out):
    found = (path for path in out.rglob("*") if path.is_file() and path.name != "trace.jsonl")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found}


def live_and_die(words, moment):
    """Run the trainer for a while, then kill it; False when it had ended by itself."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(moment)
    process.kill()
    error = process.communicate()[1]
    assert process.returncode in (0, -9), error
    return process.returncode == -9


def test_every_method_and_optimizer_is_killed():
    """But split, whose kills are in tests/splitting: it needs a computer beside it."""
    found = {(s["method"], s.get("optimizer")) for s in PAIRS.values()}
    found |= {
        (s.get("method", "exact"), s["optimizer"]) for s in SETTINGS.values() if "optimizer" in s
    }
    wanted = {
        (name, None if row.updates else optimizer)
        for name, row in METHODS.items()
        for optimizer in OPTIMIZERS
        if name != "split"
    }
    assert found == wanted
    for place in ("ram", "spill"):
        mine = [s for s in PAIRS.values() if s["state"] == place]
        assert {s["method"] for s in mine} == METHODS.keys() - {"split"}
        assert {s.get("optimizer", "sgd") for s in mine} == OPTIMIZERS.keys()
        assert {s.get("clipping") for s in mine} == {None, "keep", "twice", "last-norm"}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_all_methods_and_optimizers_go_on_with_the_same_bits(make_case, tmp_path, name):
    chance = random.Random(name)
    settings = {"steps": PAIR_STEPS, "lr": 0.01, "save_every": 2, "trace": "off", **PAIRS[name]}
    case = make_case(rank=settings.pop("rank", 4))
    begin = time.monotonic()
    whole = final(case.train(tmp_path / "whole", **settings))
    life = time.monotonic() - begin
    options = case.options(tmp_path / "run", resume=True, **settings)
    words = [str(trainer()), "train", *flags(**options)]
    for _ in range(PAIR_KILLS):
        live_and_die(words, chance.uniform(0.1, 0.7) * life)
    run("train", **options)
    assert final(tmp_path / "run") == whole


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_killed_runs_end_with_the_bits_of_one_that_was_not(make_case, tmp_path, name):
    chance = random.Random(name)
    settings = {"steps": STEPS, "lr": 0.01, "trace": "steps", **SETTINGS[name]}
    case = make_case(rank=settings.pop("rank", 4))
    if "keep" in settings:
        settings["eval_data"] = case.other_length
    whole = final(case.train(tmp_path / "whole", **settings))
    kills, number = 0, 0
    while kills < KILLS:
        out = tmp_path / f"run{number}"
        number += 1
        options = case.options(out, resume=True, **settings)
        words = [str(trainer()), "train", *flags(**options)]
        while kills < KILLS and live_and_die(words, chance.uniform(0, LONGEST_LIFE)):
            kills += 1
        run("train", **options)
        assert final(out) == whole
        starts = [r["resumed_from"] for r in records(out, "run")]
        saved = [start for start in starts if start is not None]
        assert saved == sorted(saved) and starts == [None] * (len(starts) - len(saved)) + saved
