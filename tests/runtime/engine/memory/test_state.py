"""Adapters, gradients and optimizer states in a file, a layer at a time in memory."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.runtime.running import error_of, flags, records, run, trainer

SETTINGS = {
    "adamw": {"optimizer": "adamw", "grad_accum": 2},
    "clipped": {"optimizer": "adamw", "max_grad_norm": 0.3, "threads": 2},
    "8-bit": {"optimizer": "adamw-8bit"},
    "stateless": {"optimizer": "sgd", "max_grad_norm": 0.3, "clipping": "twice"},
    "top": {"optimizer": "mlorc", "projection_rank": 2, "layers": "last:2"},
    "mezo": {"method": "mezo", "zo_eps": 0.01, "grad_accum": 2, "weight_decay": 0.1},
    "sparse-mezo": {"method": "sparse-mezo", "layers": "last:2"},
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


def test_of_an_estimate_one_layer_and_its_copies_are_in_memory(make_case, tmp_path):
    """Adapters are all that it keeps of every layer; of one, both points of each query that is
    computed beside others.
    """
    case = make_case(rank=64)
    settings = {"steps": 2, "method": "mobizo", "queries": 2}
    runs = [case.train(tmp_path / place, state=place, **settings) for place in ("ram", "spill")]
    held = [max(p["ledger"]["adapters"] for p in records(out, "phase")) for out in runs]
    layer = records(runs[0], "run")[0]["state"]["bytes"] // 3
    assert held == [7 * layer, 5 * layer]
    assert [[s["state_bytes"] for s in records(out, "step")] for out in runs] == [
        [0, 0],
        [3 * layer] * 2,
    ]


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


def preloaded(folder, source, **environment):
    """Return an environment in which programs use C functions of this source first."""
    (folder / "instead.c").write_text(source)
    library = folder / "instead.so"
    words = ["gcc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, folder / "instead.c"]
    subprocess.run([*words, "-ldl"], check=True)
    return {**os.environ, "LD_PRELOAD": str(library), **environment}


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
    options = case.options(out, steps=4, state="spill", resume=True)
    result = subprocess.run(
        [str(trainer()), "train", *flags(**options)],
        env=preloaded(tmp_path, LOSES),
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


REFUSES = """
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
int open(const char* path, int flags, ...) {
  int (*next)(const char*, int, int) = dlsym(RTLD_NEXT, "open");
  const char* hidden = getenv("HIDDEN");
  if (hidden != NULL && strcmp(path, hidden) == 0) {
    errno = ENOENT;
    return -1;
  }
  if (strcmp(path, "/proc/meminfo") == 0) path = getenv("MEMINFO");
  int mode = 0;
  if (flags & O_CREAT) {
    __builtin_va_list more;
    __builtin_va_start(more, flags);
    mode = __builtin_va_arg(more, int);
    __builtin_va_end(more);
  }
  return next(path, flags, mode);
}
int open64(const char* path, int flags, ...) __attribute__((alias("open")));
int fallocate(int fd, int mode, off_t offset, off_t bytes) {
  if (strcmp(getenv("REFUSED"), "fallocate") == 0) {
    errno = ENOSPC;
    return -1;
  }
  return ((int (*)(int, int, off_t, off_t))dlsym(RTLD_NEXT, "fallocate"))(fd, mode, offset, bytes);
}
int fallocate64(int, int, off_t, off_t) __attribute__((alias("fallocate")));
void* mmap(void* at, size_t bytes, int access, int flags, int fd, off_t offset) {
  if (fd >= 0 && (access & PROT_WRITE) && strcmp(getenv("REFUSED"), "mmap") == 0) {
    errno = ENODEV;
    return MAP_FAILED;
  }
  void* (*next)(void*, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, "mmap");
  return next(at, bytes, access, flags, fd, offset);
}
void* mmap64(void*, size_t, int, int, int, off_t) __attribute__((alias("mmap")));
"""


@pytest.mark.parametrize("refused", ["fallocate", "mmap", "nothing"])
def test_auto_stays_in_memory_where_storage_refuses(case, tmp_path, refused):
    """With little free memory; a state that was asked to be in a file is an error then."""
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable: 100 kB\n")
    more = {"MEMINFO": str(tmp_path / "meminfo"), "REFUSED": refused, "HIDDEN": "/proc/self/io"}
    environment = preloaded(tmp_path, REFUSES, **more)

    def trained(place):
        out = tmp_path / place
        options = case.options(out, steps=2, state=place, checkpoints="ram")
        words = [str(trainer()), "train", *flags(**options)]
        return out, subprocess.run(words, env=environment, capture_output=True, text=True)

    out, result = trained("auto")
    assert result.returncode == 0, result.stderr
    assert adapter(out) == adapter(case.train(tmp_path / "plain", steps=2))
    state = records(out, "run")[0]["state"]
    assert state["reason"].startswith("they take more than a quarter of the 103 KB that are free")
    if refused == "nothing":
        assert state["place"] == "spill"
        # The kernel does not tell what is written here: it is what changed in the file.
        assert all(s["written_bytes"] >= s["state_bytes"] > 0 for s in records(out, "step"))
        return
    assert state["place"] == "ram" and ", but cannot " in state["reason"]
    _, result = trained("spill")
    assert result.returncode == 1 and "error: cannot " in result.stderr


def adapter(out):
    return (out / "adapter_model.safetensors").read_bytes()


def opened(pid, name):
    """The path under which a process has a file open; others of its files come and go."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if name in str(descriptor.readlink()):
                return descriptor
    raise AssertionError(f"{name} is not open")


def test_a_file_that_cannot_be_read_is_an_error_and_no_crash(case, tmp_path):
    out = tmp_path / "run"
    options = case.options(out, state="spill", save_every=5, lr=0.01, threads=2)
    words = [str(trainer()), "train", *flags(**{**options, "steps": 100000})]
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True)
    for line in process.stdout:
        if line.startswith("step 11/"):
            break
    os.truncate(opened(process.pid, "state.tmp"), 0)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    saved = records(out, "end")[0]["steps"] // 5 * 5
    assert saved >= 10
    assert "a part of the state in" in error and "could not be read or written" in error
    assert error.endswith(f"(the state of step {saved} is kept)\n")
    steps = saved + 3
    run("train", **{**options, "steps": steps, "resume": True, "state": "ram"})
    straight = case.train(tmp_path / "straight", steps=steps, lr=0.01, threads=2)
    assert (out / "state.bin").read_bytes() == (straight / "state.bin").read_bytes()


def test_an_unknown_place_is_refused(case, tmp_path):
    message = error_of("train", code=2, **case.options(tmp_path / "run", state="disk"))
    assert "expected auto|ram|spill" in message
