"""What leaves a pulled run: its card, a merged model, an adapter of llama.cpp."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import toolkit
from tests.support.adapters import save_adapter
from toolkit import ToolkitError
from toolkit.cli.main import app
from toolkit.data.dataset import read_rows
from toolkit.data.tokenizers import load_tokenizer
from toolkit.exchange.card import write_run_card
from toolkit.exchange.output import MARK
from toolkit.oracle.batch import mean_loss
from toolkit.trace.units import number


def command(*words, code=0):
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == code, result.output
    return result


def test_the_card_says_what_the_run_was(here):
    card = (here.folder / "runs/run1/README.md").read_text()
    trace = json.loads((here.folder / "runs/run1/trace.jsonl").read_text().splitlines()[0])
    for shown in (
        trace["bundle"]["base_sha256"],
        trace["data"]["sha256"],
        f"{trace['data']['sequences']} sequences of 64 tokens",
        "| rank | 8 |",
        "| lr | 5e-4 |",
        "steps over 320 tokens, completed",
        "library_name",
        "Training loss 7.",
    ):
        assert shown in card, shown


def test_the_card_calls_approximate_what_was_trained_so(here, tmp_path):
    run = tmp_path / "run"
    shutil.copytree("runs/run1", run)
    exact = write_run_card(run).read_text()
    assert "| lowering | mesp |" in exact and "approximate" not in exact
    first, _, rest = (run / "trace.jsonl").read_text().partition("\n")
    record = json.loads(first) | {"lowering": "approx-bp"}
    (run / "trace.jsonl").write_text(json.dumps(record) + "\n" + rest)
    card = write_run_card(run).read_text()
    assert "Its gradients were approximate: lowering approx-bp" in card
    assert "| lowering | approx-bp (approximate gradients) |" in card
    record["settings"]["method"] = "mezo"
    (run / "trace.jsonl").write_text(json.dumps(record) + "\n" + rest)
    assert "Its gradients were approximate" not in write_run_card(run).read_text()


def test_the_cards_code_loads_the_adapter(here, monkeypatch):
    """What `peft` then computes is the base model's weights and this adapter."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code = re.search(
        r"```python\n(.*?)```", (here.folder / "runs/run1/README.md").read_text(), re.S
    )
    names = {}
    exec(code[1], names)
    loaded = dict(names["model"].named_parameters())
    base = AutoModelForCausalLM.from_pretrained("model")
    for name, value in base.named_parameters():
        module, _, last = name.rpartition(".")
        ends = (name, f"{module}.base_layer.{last}")
        assert any(torch.equal(value, v) for n, v in loaded.items() if n.endswith(ends)), name
    assert sum("lora_B" in name and bool(v.any()) for name, v in loaded.items()) == 14


def test_somebody_elses_card_stays(here, tmp_path):
    run = tmp_path / "run"
    shutil.copytree("runs/run1", run)
    card = run / "README.md"
    card.write_text("mine")
    assert write_run_card(run) is None and card.read_text() == "mine"
    card.write_text(f"{MARK}\nold")
    assert write_run_card(run) == card and "# LoRA adapter of" in card.read_text()
    (run / "adapter_model.safetensors").unlink()
    assert write_run_card(run) is None and not card.exists()


def test_what_a_device_says_is_no_markup(here, tmp_path):
    run = tmp_path / "run"
    shutil.copytree("runs/run1", run)
    first, _, rest = (run / "trace.jsonl").read_text().partition("\n")
    record = json.loads(first) | {"model": "a|b `c` <script>\n# d\n---"}
    (run / "trace.jsonl").write_text(json.dumps(record) + "\n" + rest)
    text = write_run_card(run).read_text()
    assert "# LoRA adapter of a b c script d ---\n" in text
    assert "<script>" not in text and "\n# d" not in text
    config = json.loads((run / "adapter_config.json").read_text())
    for base, shown in (("x" * 5000, "(none)"), ("a\0`b", "a b"), ("", "(none)")):
        named = json.dumps(config | {"base_model_name_or_path": base})
        (run / "adapter_config.json").write_text(named)
        card = write_run_card(run).read_text()
        assert f"`peft` finds no base model by the name {shown}: load" in card


def test_merging_by_command(here):
    merged = json.loads(command("merge", "runs/run1", "-o", "out", "--json").stdout)
    assert merged["original"] and merged["weights"] == 14 and merged["type"] == "f32"
    model = AutoModelForCausalLM.from_pretrained("out")
    reference = AutoModelForCausalLM.from_pretrained("model")
    tokens = torch.arange(12)[None]
    assert (model(tokens).logits - reference(tokens).logits).abs().max() > 1e-3
    said = command("merge", "runs/run1", "-o", "out", "--base", "bundle", "--type", "f16")
    assert "14 weights changed, f16" in said.stdout
    assert "made of weights dequantized from the bundle bundle" in said.stdout.replace("\n", "")
    error = command("merge", "runs/run1", "-o", "out", "--type", "q8_0", code=1).stderr
    assert "a directory has no q8_0 numbers" in error
    found = json.loads(
        command("merge", "runs/run1", "-o", "out.gguf", "--to", "gguf", "--json").stdout
    )
    assert (found["type"], found["weights"], found["original"]) == ("f16", 14, True)
    text = "hello there"
    own = toolkit.Bundle.open("bundle").tokenizer()
    assert load_tokenizer("out.gguf")(text)["input_ids"] == own(text)["input_ids"]
    command("merge", "runs/run1", "-o", "out", "--to", "onnx", code=2)
    shutil.rmtree("out")
    Path("out.gguf").unlink()


def test_a_merged_model_keeps_the_loss(here, tmp_path):
    """In float16 the held-out loss is that of base and adapter: the bundle's weights and B A."""
    with_adapter = toolkit.evaluate("bundle", "data", adapter="runs/run1").with_adapter.loss
    toolkit.merge("runs/run1", tmp_path / "merged", base="bundle", type="f16")
    loss = _held_out_loss(tmp_path / "merged")
    assert loss == pytest.approx(with_adapter, rel=1e-3)
    assert abs(_held_out_loss("model") - with_adapter) > 2e-3 * with_adapter


def _held_out_loss(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return mean_loss(model, read_rows(Path("data/validation.ptd")))


def test_an_adapter_of_pefts_own_is_evaluated_and_goes_on(here, tmp_path):
    """One that was trained elsewhere, in float16 as many are, with the bundle's rank and alpha."""
    reference = toolkit.Bundle.open("bundle").reference_model()
    elsewhere = save_adapter(tmp_path / "made", reference, size=0.1, r=8, lora_alpha=16)
    tensors = load_file(tmp_path / "made/adapter_model.safetensors")
    halves = {name: value.half() for name, value in tensors.items()}
    save_file(halves, tmp_path / "made/adapter_model.safetensors")
    with torch.no_grad():
        for name, value in elsewhere.named_parameters():
            if "lora_" in name:
                value.copy_(value.half())
    report = toolkit.evaluate("bundle", "data", adapter=tmp_path / "made")
    wanted = mean_loss(elsewhere, read_rows(Path("data/validation.ptd")))
    assert report.with_adapter.loss == pytest.approx(wanted, rel=1e-5)
    assert abs(wanted - report.without_adapter.loss) > 1e-3 * wanted
    with toolkit.open_device("local") as device:
        settings = toolkit.TrainSettings(steps=1, eval_every=0, learning_rate=1e-5)
        run = device.train("elsewhere", settings, adapter=tmp_path / "made").wait()
        result = run.pull(tmp_path / "went-on")
    card = (result.path / "README.md").read_text()
    losses = re.findall(r"\| after step [01] \| ([\d.]+) \|", card)
    assert losses == [number(evaluation.loss) for evaluation in run.evaluations]
    # One step of Adam moves every value by the learning rate at most.
    after = load_file(result.adapter_path / "adapter_model.safetensors")
    assert set(after) == set(halves)
    moved = max((after[name] - halves[name].float()).abs().max() for name in halves)
    assert 0 < moved <= 1.01e-5


def test_converting_by_command(here):
    found = json.loads(command("convert", "runs/run1", "--to", "gguf", "--json").stdout)
    assert found["path"] == "runs/run1.gguf" and found["weights"] == 14
    assert found["bytes"] == (here.folder / "runs/run1.gguf").stat().st_size
    said = command("convert", "runs/run1", "--to", "gguf", "-o", "a.gguf", "--base", "bundle")
    assert said.stderr == "next: llama-cli -m MODEL.gguf --lora a.gguf\n"
    assert (here.folder / "a.gguf").read_bytes()[:4] == b"GGUF"
    command("convert", "runs/run1", code=2)


def test_wrong_words_from_python(here):
    with pytest.raises(ToolkitError, match="'int3' is not known"):
        toolkit.merge("runs/run1", "x", type="int3")
    with pytest.raises(ToolkitError, match="'onnx' is not known"):
        toolkit.merge("runs/run1", "x", to="onnx")
