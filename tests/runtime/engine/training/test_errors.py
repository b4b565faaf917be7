"""Whatever is wrong: one line that names cause and remedy, and nothing lost."""

import os
import resource
import struct
import subprocess

import pytest
import torch

from tests.oracle.rows import mixed_rows
from tests.runtime.cases import SEQ_LENS, VOCAB
from tests.runtime.running import error_of, flags, records, run, trainer
from toolkit.bundle.flat_tensor import FlatTensorReader, TensorSpec, write_flat_tensor
from toolkit.bundle.identity import write_identity
from toolkit.data.dataset import write_rows

T = SEQ_LENS[0]


def train_error(case, out, **options):
    return error_of("train", **case.options(out, **options))


def rewrite(path, change):
    """Rewrite a FlatTensor file with `change` applied to the dict of its tensors."""
    reader = FlatTensorReader(path)
    tensors = {name: reader.tensor(name).clone() for name in list(reader.keys())}
    change(tensors)
    specs = [TensorSpec(name, tuple(t.shape), t.dtype) for name, t in tensors.items()]
    write_flat_tensor(path, specs, tensors.values())


def rewrite_base(bundle, change):
    """Rewrite base.ptd as an export would have: the bundle's identity follows."""
    rewrite(bundle / "base.ptd", change)
    tell_identity(bundle)


def tell_identity(bundle):
    """Make the bundle's files what it says they are."""
    files = [bundle / name for name in ("programs.pte", "base.ptd", "adapter.ptd")]
    write_identity(bundle / "identity.ptd", *files, None)


@pytest.mark.parametrize(
    "file", ["programs.pte", "base.ptd", "adapter.ptd", "adapter_config.json", "identity.ptd"]
)
def test_a_missing_file_of_the_bundle(case, bundle_copy, tmp_path, file):
    (bundle_copy / file).unlink()
    message = train_error(case, tmp_path / "run", bundle=bundle_copy, adapter=None)
    assert file in message


@pytest.mark.parametrize("file", ["programs.pte", "base.ptd", "adapter.ptd"])
@pytest.mark.parametrize("size", [0, 20, 1000, -200])
def test_a_truncated_file_of_the_bundle(case, bundle_copy, tmp_path, file, size):
    path = bundle_copy / file
    path.write_bytes(path.read_bytes()[:size])
    message = train_error(case, tmp_path / "run", bundle=bundle_copy, adapter=None)
    assert str(path) in message or file in message


@pytest.mark.parametrize("size", [-1, -64, -(1 << 62), (1 << 40) + 1, (1 << 62)])
def test_programs_that_plan_impossible_memory(case, bundle_copy, tmp_path, size):
    path = bundle_copy / "programs.pte"
    whole = path.read_bytes()
    before = struct.pack("<qq", 0, 18432)  # of block_forward_t24, after the one nobody uses
    assert whole.count(before) == 1
    path.write_bytes(whole.replace(before, struct.pack("<qq", 0, size)))
    tell_identity(bundle_copy)
    message = train_error(case, tmp_path / "run", bundle=bundle_copy)
    assert "programs.pte plans memory of no possible size" in message


def test_a_switch_is_as_it_says(case, tmp_path):
    out = case.train(tmp_path / "run", steps=1)
    words = [str(trainer()), "train", *flags(**case.options(out, steps=2))]
    for value, code, message in [
        ("false", 1, "already holds a run"),
        ("", 2, "--resume : expected true or false"),
        ("yes", 2, "--resume yes: expected true or false"),
    ]:
        result = subprocess.run([*words, f"--resume={value}"], capture_output=True, text=True)
        assert (result.returncode, message in result.stderr) == (code, True), result.stderr
    subprocess.run([*words, "--resume=true"], check=True, capture_output=True)


def test_a_failed_start_is_in_the_trace_and_can_be_repeated(case, bundle_copy, tmp_path):
    out = tmp_path / "run"
    base = bundle_copy / "base.ptd"
    whole = base.read_bytes()
    base.write_bytes(whole[: len(whole) // 2])
    message = train_error(case, out, bundle=bundle_copy)
    first, *_, last = records(out)
    assert (first["type"], last["type"], last["status"]) == ("run", "end", "failed")
    assert message == f"error: {last['error']}"
    base.write_bytes(whole)
    case.train(out, bundle=bundle_copy)
    assert records(out, "end")[0]["status"] == "completed"


def test_weights_that_do_not_fit_the_programs(case, bundle_copy, tmp_path):
    key = "layers.1.mlp.up_proj.codes"

    def shorten(tensors):
        tensors[key] = tensors[key][:-1].contiguous()

    rewrite_base(bundle_copy, shorten)
    message = train_error(case, tmp_path / "run", bundle=bundle_copy)
    assert key in message
    assert "programs.pte expects uint8 [6, 64, 8]" in message
    rewrite_base(bundle_copy, lambda tensors: tensors.pop(key))
    assert f"has no tensor {key}" in train_error(case, tmp_path / "run", bundle=bundle_copy)


def test_an_adapter_that_does_not_fit(case, tmp_path):
    key = "layers.2.self_attn.q_proj.lora_A.weight"
    path = tmp_path / "adapter.ptd"

    def write(change):
        path.write_bytes(case.adapter.read_bytes())
        rewrite(path, change)

    write(lambda tensors: tensors.update({key: torch.zeros(8, 64)}))
    message = train_error(case, tmp_path / "run", adapter=path)
    assert key in message
    assert "float32 [8, 64]" in message
    assert "float32 [4, 64]" in message
    write(lambda tensors: tensors.pop(key))
    assert f"has no tensor {key}" in train_error(case, tmp_path / "run", adapter=path)
    write(lambda tensors: tensors.update({"layers.9.more": torch.zeros(1)}))
    assert "the bundle trains 42" in train_error(case, tmp_path / "run", adapter=path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens", VOCAB),
        ("tokens", -1),
        ("labels", VOCAB),
        ("labels", -1),
        ("start", 6),
        ("start", -1),
        ("positions", -1),
    ],
)
def test_numbers_outside_what_the_model_allows(case, tmp_path, name, value):
    rows = mixed_rows(T, VOCAB)
    getattr(rows, name)[2, 5] = value
    write_rows(tmp_path / "data.ptd", rows)
    message = train_error(case, tmp_path / "run", data=tmp_path / "data.ptd")
    assert f"{name}[2, 5] is {value}" in message


def test_data_of_a_length_without_programs(case, tmp_path):
    write_rows(tmp_path / "data.ptd", mixed_rows(T + 2, VOCAB))
    message = train_error(case, tmp_path / "run", data=tmp_path / "data.ptd")
    assert "sequences of 26 tokens" in message
    assert "programs for 24, 40, 48" in message


def test_sequences_together_without_programs_for_them(case, tmp_path):
    message = train_error(case, tmp_path / "run", batch_size=3)
    assert "3 sequences of 24 tokens together take programs for 72 tokens" in message
    assert "Export it with --seq-len 24 --seq-len 72, or use --grad-accum" in message
    files = {"bundle": case.bundle, "data": case.data, "out": tmp_path / "g"}
    message = error_of("gradients", code=2, **files, samples="0,1,2", batch_size=2)
    assert "--samples names 3, no multiple of --batch-size 2" in message


def test_data_without_labels(case, tmp_path):
    rows = mixed_rows(T, VOCAB)
    labels = rows.labels.copy()
    rows.labels[:] = -100
    write_rows(tmp_path / "data.ptd", rows)
    assert "no labelled tokens" in train_error(case, tmp_path / "run", data=tmp_path / "data.ptd")
    rows.labels[0] = labels[0]
    write_rows(tmp_path / "data.ptd", rows)
    out = tmp_path / "other"
    message = train_error(case, out, data=tmp_path / "data.ptd", order="sequential")
    assert "none of the 1 samples of this step has labelled tokens" in message
    assert records(out, "end")[0]["steps"] == 1


def test_data_that_is_no_data(case, tmp_path):
    assert "has no tensor tokens" in train_error(case, tmp_path / "run", data=case.adapter)
    assert "does/not/exist" in train_error(case, tmp_path / "run", data="does/not/exist")

    def halve(tensors):
        tensors["labels"] = tensors["labels"][:, : T // 2].contiguous()

    path = tmp_path / "data.ptd"
    path.write_bytes(case.data.read_bytes())
    rewrite(path, halve)
    assert "labels is int32 [4, 12]" in train_error(case, tmp_path / "run", data=path)


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(case, tmp_path):
    out = tmp_path / "run"
    # Each step multiplies the adapter by 1 - 900, whatever the gradient.
    options = {"optimizer": "sgd", "lr": 900, "weight_decay": 1, "save_every": 1, "steps": 200}
    message = train_error(case, out, **options)
    assert "is not finite" in message
    saved = int(message.split("the state of step ")[1].split()[0])
    end = records(out, "end")[0]
    assert (end["status"], end["steps"]) == ("failed", saved)
    assert message == f"error: {end['error']}"
    assert [e["detail"] for e in records(out, "event")][-1] == f"step {saved}"
    before = (out / "state.bin").read_bytes()
    run("train", **case.options(out, resume=True, **{**options, "steps": saved}))
    assert (out / "state.bin").read_bytes() == before


def limited(case, out, limit, **options):
    """Train with a limit on the size of files, which acts like a full disk."""
    words = [str(trainer()), "train", *flags(**case.options(out, **options))]

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        words, capture_output=True, text=True, check=False, preexec_fn=limit_files, timeout=120
    )


def test_a_full_disk_keeps_what_was_saved(case, tmp_path):
    out = case.train(tmp_path / "run", steps=2, trace="steps")
    before = (out / "state.bin").read_bytes()
    size = (out / "adapter_model.safetensors").stat().st_size
    result = limited(case, out, size + 100, steps=5, resume=True, trace="steps")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "File too large. Free some storage and resume" in result.stderr
    assert "the state of step 2 is kept" in result.stderr
    assert (out / "state.bin").read_bytes() == before
    assert not list(out.glob("*.tmp"))
    assert records(out, "end")[-1]["status"] == "failed"
    run("train", **case.options(out, steps=5, resume=True))


@pytest.mark.parametrize("checkpoints", ["ram", "spill"])
def test_a_disk_full_from_the_start(case, tmp_path, checkpoints):
    result = limited(case, tmp_path / "run", 4096, steps=5, checkpoints=checkpoints)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "File too large" in result.stderr


def test_a_directory_that_cannot_be_written(case, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is not a directory" in train_error(case, tmp_path / "file")
    assert "cannot" in train_error(case, "/proc/run")


def test_a_result_does_not_replace_what_is_no_file(case, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    options = {"bundle": case.bundle, "data": case.data, "samples": 0, "out": pipe}
    assert "pipe is not an ordinary file" in error_of("gradients", **options)
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"steps": None}, "needs --steps"),
        ({"steps": 0}, "--steps 0: expected 1 to"),
        ({"steps": "many"}, "--steps many: expected a whole number"),
        ({"steps": "3.5"}, "expected a whole number"),
        ({"lr": "nan"}, "--lr nan: expected a number"),
        ({"lr": -1}, "--lr -1: expected"),
        ({"optimizer": "adam"}, "expected sgd|adamw|lion"),
        ({"beta1": 1}, "--beta1 1: expected"),
        ({"momentum": 0.9}, "--momentum is an option of --optimizer sgd, and adamw does not read"),
        ({"optimizer": "sgd", "eps": 1}, "--eps is an option of --optimizer adamw, and sgd does"),
        ({"method": "guess"}, "--method guess: expected exact"),
        ({"trace": "half"}, "expected full|steps|off"),
        ({"unknown": 1}, "no option --unknown"),
        ({"samples": 1}, "no option --samples"),
        ({"data": ""}, "--data : expected FILE.ptd"),
    ],
)
def test_wrong_usage(case, tmp_path, options, what):
    out = tmp_path / "run"
    assert what in error_of("train", code=2, **case.options(out, **options))
    assert not out.exists()


@pytest.mark.parametrize("samples", ["4", "-1", "a", "0,", "", "0;1"])
def test_wrong_samples(case, tmp_path, samples):
    options = {"bundle": case.bundle, "data": case.data, "out": tmp_path / "g", "samples": samples}
    assert "--samples" in error_of("gradients", code=2, **options)


def test_words_that_are_no_command():
    for words, code in [(["fly"], 2), ([], 2), (["train", "now"], 2), (["train", "--steps"], 2)]:
        result = subprocess.run([trainer(), *words], capture_output=True, text=True, check=False)
        assert result.returncode == code
        assert result.stderr


def test_help_names_every_option_and_default():
    for command, option in [("train", "--grad-accum N"), ("evaluate", "--max-samples N")]:
        text = run(command, help=True).stdout
        assert f"usage: trainer {command}" in text
        assert option in text
        assert "example:" in text
    readers = "adamw, lion, adamw-8bit, apollo, apollo-mini, mlorc"
    decay = f"{readers}: decay of the second moment (default 0.999, lion 0.99)"
    assert decay in run("train", help=True).stdout
    result = subprocess.run([trainer(), "--help"], capture_output=True, text=True, check=True)
    assert all(name in result.stdout for name in ("train", "evaluate", "gradients", "describe"))
