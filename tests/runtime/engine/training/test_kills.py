"""SIGKILL at random moments: nothing is lost beyond the last save, and the bits stay the same."""

import os
import random
import subprocess
import time

import pytest

from tests.runtime.cases import RANK_8BIT
from tests.runtime.running import flags, records, run, trainer

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
