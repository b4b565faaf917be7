"""Adapters, gradients and optimizer states in a file, a layer at a time in memory."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.runtime.running import error_of, flags, records, trainer

SETTINGS = {
    "adamw": {"optimizer": "adamw", "grad_accum": 2},
    "clipped": {"optimizer": "adamw", "max_grad_norm": 0.3, "threads": 2},
    "8-bit": {"optimizer": "adamw-8bit"},
    "stateless": {"optimizer": "sgd", "max_grad_norm": 0.3, "clipping": "twice"},
    "top": {"optimizer": "mlorc", "projection_rank": 2, "layers": "last:2"},
    "held-out": {"optimizer": "lion", "eval_every": 2, "keep": "best", "keep_checkpoints": 2},
}


def files(out):
    found = (path for path in out.rglob("*") if path.is_file() and path.name != "trace.jsonl")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_state_in_a_file_has_the_bits_of_one_in_memory(make_case, tmp_path, name):
    case = make_case(rank=64)
    options = {"steps": 6, "lr": 0.01, "save_every": 2, **SETTINGS[name]}
    if "keep" in options:
        options["eval_data"] = case.other_length
    runs = {
        place: case.train(tmp_path / place, state=place, **options) for place in ("ram", "spill")
    }
    assert files(runs["ram"]) == files(runs["spill"])
    losses = [
        [r.get("loss") for r in records(out) if r["type"] in ("step", "evaluation")]
        for out in runs.values()
    ]
    assert losses[0] == losses[1]
    # Where it is may change when a run goes on.
    for place, out in runs.items():
        other = "spill" if place == "ram" else "ram"
        case.train(out, state=other, resume=True, **options | {"steps": 9})
    assert files(runs["ram"]) == files(runs["spill"])


def test_one_layer_is_in_memory_and_what_changes_is_counted(make_case, tmp_path):
    """Three layers of equal size; gradients that are kept change when they are clipped, too."""
    case = make_case(rank=64)
    for clip in (0, 0.1):
        whole, one = (
            case.train(tmp_path / f"{place}{clip}", steps=2, state=place, max_grad_norm=clip)
            for place in ("ram", "spill")
        )
        wanted, held = (
            {
                name: max(phase["ledger"][name] for phase in records(out, "phase"))
                for name in ("adapters", "optimizer", "gradients")
            }
            for out in (whole, one)
        )
        kept = wanted["gradients"] if clip else 0
        assert held["adapters"] * 3 == wanted["adapters"]
        assert held["optimizer"] * 3 == wanted["optimizer"] == 2 * wanted["adapters"]
        assert held["gradients"] * (3 if clip else 1) == wanted["gradients"]
        changed = wanted["adapters"] + wanted["optimizer"] + 2 * kept
        assert [step["state_bytes"] for step in records(one, "step")] == [changed] * 2
        assert [step["state_bytes"] for step in records(whole, "step")] == [0] * 2
        places = [records(out, "run")[0]["state"] for out in (whole, one)]
        assert [place["place"] for place in places] == ["ram", "spill"]
        assert {place["bytes"] for place in places} == {
            wanted["adapters"] + wanted["optimizer"] + kept
        }


def test_the_file_has_no_name_and_few_of_its_pages_are_in_memory(make_case, tmp_path):
    """While a run goes on; whole layers of 0.6 MB and what the kernel maps around them."""
    case, out = make_case(rank=64), tmp_path / "run"
    options = case.options(out, steps=100000, state="spill", save_every=0)
    process = subprocess.Popen([str(trainer()), "train", *flags(**options)])
    try:
        while not (out / "trace.jsonl").exists() or len(records(out, "step")) < 2:
            time.sleep(0.05)
        assert not (out / "state.tmp").exists()
        most = 0
        for _ in range(200):
            most = max(most, resident(process.pid, "state.tmp"))
    finally:
        process.kill()
        process.wait()
    layer = records(out, "run")[0]["state"]["bytes"] // 3
    assert 0 < most < 1.5 * layer


def resident(pid, name):
    """Bytes of a process's mappings of a file that are in memory."""
    found, size = False, 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            found = name in line
        elif found and line.startswith("Rss:"):
            size += int(line.split()[1]) * 1024
    return size


LOSES = """
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int fsync(int fd) {
  char link[64], path[4096] = "";
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, "state.tmp (deleted)")) {
    errno = EIO;
    return -1;
  }
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
"""


def test_a_state_that_the_storage_lost_is_not_saved(make_case, tmp_path):
    case, out = make_case(), tmp_path / "run"
    case.train(out, steps=2, state="spill")
    before = files(out)
    (tmp_path / "loses.c").write_text(LOSES)
    library = tmp_path / "loses.so"
    words = ["gcc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, tmp_path / "loses.c"]
    subprocess.run([*words, "-ldl"], check=True)
    options = case.options(out, steps=4, state="spill", resume=True)
    result = subprocess.run(
        [str(trainer()), "train", *flags(**options)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "the storage lost a part of the state in" in result.stderr
    assert files(out) == before


def test_storage_without_room_for_the_state_is_an_error_and_no_crash(make_case, tmp_path):
    case = make_case(rank=64)
    options = case.options(tmp_path / "run", state="spill", checkpoints="ram")
    code = "import resource, os, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20,) * 2); "
    code += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    code += "os.execv(sys.argv[1], sys.argv[1:])"
    words = ["python3", "-c", code, str(trainer()), "train", *flags(**options)]
    result = subprocess.run(
        words, capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert result.returncode == 1
    assert "cannot make room for the state in" in result.stderr


def test_an_unknown_place_is_refused(case, tmp_path):
    message = error_of("train", code=2, **case.options(tmp_path / "run", state="disk"))
    assert "expected auto|ram|spill" in message
