"""What the engine holds of its process, and lets go of."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.runtime.running import Case, flags, probe, probe_path, run, trainer
from toolkit.data.dataset import read_rows, write_rows

# In KiB: of a run that was closed, what the process keeps (stacks, the allocator, libraries).
KEPT = 512
ENDING = {"exit", "_exit", "_Exit", "quick_exit", "abort", "popen", "system", "fork", "vfork"}


def test_a_closed_run_gives_its_memory_and_threads_back(case, tmp_path):
    lines = probe("sessions", case.data, case.bundle, tmp_path / "run", 4).decode().split("\n")
    sizes = [(word, *map(int, rest)) for word, *rest in (line.split() for line in lines if line)]
    (_, before, _, _), *rounds = sizes
    assert len(rounds) == 8
    for opened, closed in zip(rounds[::2], rounds[1::2], strict=True):
        assert opened[0] == "open" and closed[0] == "closed"
        # Two workers, the reader of weights and the sampler beside the caller.
        assert opened[2] == 5 and closed[2] == 1
        assert opened[3] > 0 and closed[3] == 0
        assert opened[1] > before + KEPT > closed[1]
    closed = [size for word, size, *_ in rounds if word == "closed"]
    assert closed[-1] <= closed[1] + 64, "every run leaves something behind"


def test_one_run_at_a_time(case, tmp_path):
    lines = probe("exclusive", case.data, case.bundle, tmp_path / "run").decode().splitlines()
    refused = "another run, evaluation or gradient is open in this process. Close it first"
    assert lines[:4] == [
        f"create 1 0 {refused}",
        f"evaluate 1 {refused}",
        f"gradients 1 {refused}",
        "step 0",
    ]
    assert lines[4].startswith("missing 1 bundle does/not/exist has no identity.ptd")
    assert lines[5] == "after 0"


def test_operators_are_observed_while_a_run_is_open(case, tmp_path):
    """However it ends: without a trace the next would pay for what nobody reads."""
    lines = probe("observed", case.data, case.bundle, tmp_path / "run").decode().splitlines()
    assert lines == ["open 1", "closed 0", "failed 0"]


def objects() -> list[Path]:
    """The object files of the library: all but those of the executables."""
    found = sorted(probe_path().parent.glob("**/*.o"))
    return [
        file
        for file in found
        if file.parent.name != "trainer.dir"
        and file.name.split(".")[0] not in ("probe", "probe_runs", "probe_together")
    ]


def test_nothing_in_the_library_ends_or_forks_the_process():
    files = objects()
    assert len(files) > 40, "no build tree: run `make setup`"
    command = ["nm", "--undefined-only", "--print-file-name", *map(str, files)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [line for line in lines if line.split()[-1].split("@")[0] in ENDING]
    assert found == []


def test_executorch_gives_up_without_ending_the_process(case):
    message = probe("give-up", case.bundle / "programs.pte", fails=True).decode()
    assert message.startswith("error: ExecuTorch gave up: ")


@pytest.fixture
def long_data(case: Case, tmp_path: Path) -> Path:
    """Samples for an evaluation of many seconds."""
    rows = read_rows(case.data)
    path = tmp_path / "long.ptd"
    write_rows(path, type(rows)(*(array.repeat(4000, axis=0) for array in vars(rows).values())))
    return path


def evaluation(case: Case, data: Path, *words: str, **streams: int) -> subprocess.Popen[str]:
    command = [str(trainer()), "evaluate", *flags(bundle=case.bundle, data=data, threads=1), *words]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, **streams)


def test_an_evaluation_ends_with_the_one_who_asked(case, long_data):
    pipe = subprocess.PIPE
    process = evaluation(case, long_data, "--lifeline", stdin=pipe, stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    assert process.poll() is None, process.stderr.read()
    process.stdin.close()
    assert process.wait(5) == 130
    assert "standard input has ended" in process.stderr.read()


def test_without_a_lifeline_standard_input_may_end(case):
    result = run("evaluate", bundle=case.bundle, data=case.data, threads=1)
    assert '"type":"evaluation"' in result.stdout
    command = [trainer(), "train", *flags(**case.options(Path("unused"))), "--lifeline"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "no option --lifeline" in result.stderr
    assert "--lifeline" in run("evaluate", help=True).stdout
    assert "--lifeline" not in run("train", help=True).stdout


def test_an_evaluation_nobody_reads_ends(case, long_data):
    process = evaluation(case, long_data, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout.readline().startswith("{")
    process.stdout.close()
    assert process.wait(20) == 130
    assert "nobody reads" in process.stderr.read()


def test_a_training_nobody_reads_goes_on(case, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    words = [str(trainer()), "train", *flags(**case.options(tmp_path / "run"))]
    assert subprocess.run(words, stdout=writer, check=False).returncode == 0
    os.close(writer)


SPY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
static void tell(const char* what, const char* path) {
  FILE* log = fopen(getenv("SPY_LOG"), "a");
  fprintf(log, "%s %s\n", what, path);
  fclose(log);
}
int mkdirat(int folder, const char* path, mode_t mode) {
  int (*real)(int, const char*, mode_t) = dlsym(RTLD_NEXT, "mkdirat");
  const int result = real(folder, path, mode);
  if (result == 0) tell("mkdir", path);
  return result;
}
int fsync(int fd) {
  char link[64], path[4096] = "";
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  if (readlink(link, path, sizeof(path) - 1) > 0) tell("fsync", path);
  return 0;
}
int renameat(int source, const char* from, int target, const char* to) {
  int (*real)(int, const char*, int, const char*) = dlsym(RTLD_NEXT, "renameat");
  tell("rename", to);
  return real(source, from, target, to);
}
"""


def test_made_directories_and_files_outlive_a_power_loss(case, tmp_path):
    """Each is synced, and then the directory that names it."""
    (tmp_path / "spy.c").write_text(SPY)
    spy, log = tmp_path / "spy.so", tmp_path / "log"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", spy, tmp_path / "spy.c", "-ldl"], check=True)
    out = tmp_path / "runs" / "a"
    words = [str(trainer()), "train", *flags(**case.options(out, steps=1))]
    environment = {**os.environ, "LD_PRELOAD": str(spy), "SPY_LOG": str(log)}
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
    lines = log.read_text().splitlines()
    for made in (tmp_path / "runs", out):
        at = lines.index(f"mkdir {made}")
        assert lines[at + 1] == f"fsync {made.parent}"
    for name in ("adapter_config.json", "adapter_model.safetensors", "state.bin"):
        at = lines.index(f"rename {out / name}")
        assert lines[at - 1] == f"fsync {out / name}.tmp"
        assert lines[at + 1] == f"fsync {out}"


def test_a_run_says_what_device_it_ran_on_without_asking_a_program(case, tmp_path):
    out = case.train(tmp_path / "run", steps=1)
    device = json.loads((out / "trace.jsonl").read_text().splitlines()[0])["device"]
    names = [Path("/proc/device-tree/model"), Path("/sys/class/dmi/id/product_name")]
    known = [path.read_text().strip("\0\n") for path in names if path.is_file()]
    assert device["model"] == (known[0] if known else "")
