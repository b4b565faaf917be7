"""Federations of devices of this machine, with the real trainer."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import toolkit
from tests.federation.conftest import STEPS
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.peft_files import PEFT_PREFIX
from toolkit.errors import ToolkitError
from toolkit.federation.card import write_card
from toolkit.federation.settings import read_federation
from toolkit.sealed_json import seal

ADAPTER = "adapter_model.safetensors"


def adapter(folder) -> bytes:
    return (Path(folder) / ADAPTER).read_bytes()


def tensors(folder):
    return load_file(Path(folder) / ADAPTER)


def same(one, other):
    a, b = tensors(one), tensors(other)
    return a.keys() == b.keys() and all(a[n].tobytes() == b[n].tobytes() for n in a)


@pytest.fixture(scope="session")
def alone(lab, tmp_path_factory):
    """A federation of one node, which the local run and the twins are held against."""
    folder = tmp_path_factory.mktemp("alone")
    schedule = {"train": {"schedule": "cosine"}}
    return toolkit.federate(lab.config(folder / "lab.yaml", "a", **schedule), folder / "out")


def test_one_node_is_a_local_run_bit_by_bit(lab, alone, tmp_path):
    """Of the same steps in all, with what the optimizer remembers and the place in the data."""
    settings = read_federation(lab.config(tmp_path / "f.yaml", "a", train={"schedule": "cosine"}))
    with toolkit.open_device(f"{lab.folder}/a") as device:
        run = device.train("whole", settings.run_settings(1), bundle="lab", data="lab").wait()
        result = run.pull(tmp_path / "whole")
    assert same(alone.path, result.path)
    lines = map(json.loads, (result.path / "trace.jsonl").read_text().splitlines())
    steps = [record for record in lines if record["type"] == "step"]
    for number, record in enumerate(alone.rounds):
        part = steps[number * STEPS : (number + 1) * STEPS]
        weights = [step["labelled"] for step in part]
        wanted = np.average([step["loss"] for step in part], weights=weights)
        assert record["loss"] == pytest.approx(wanted, rel=1e-12)
        assert record["nodes"][0]["labelled"] == sum(weights)


def test_nodes_with_the_same_data_are_one(lab, alone, tmp_path):
    config = lab.config(tmp_path / "lab.yaml", "a", "twin", train={"schedule": "cosine"})
    twins = toolkit.federate(config, tmp_path / "out")
    assert same(twins.path, alone.path)
    assert all(record["product_bias"] < 1e-6 for record in twins.rounds)


@pytest.fixture(scope="session")
def pair(lab, tmp_path_factory):
    """Two nodes with data of their own."""
    folder = tmp_path_factory.mktemp("pair")
    return toolkit.federate(pair_config(lab, folder), folder / "out")


def pair_config(lab, folder, **options):
    """Of a rate that no other test has: devices send nothing that they were sent before."""
    return lab.config(folder / "lab.yaml", "a", "b", train={"lr": 0.011}, **options)


def test_the_round_says_what_nodes_did(pair):
    record = pair.rounds[1]
    assert [node["node"] for node in record["nodes"]] == ["a", "b"] and not record["failures"]
    for node in record["nodes"]:
        assert (node["first_step"], node["last_step"]) == (STEPS + 1, 2 * STEPS)
        assert node["labelled"] > 0 and node["peak_bytes"] > 1 << 20
        assert 0 < node["train_seconds"] < node["seconds"]
        size = (pair.path / ADAPTER).stat().st_size
        assert size < node["received_bytes"] < 2 * size + 300_000
        assert size < node["sent_bytes"] < 2 * size + 300_000
    losses = [(node["loss"], node["labelled"]) for node in record["nodes"]]
    wanted = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
    assert record["loss"] == pytest.approx(wanted, rel=1e-12)
    assert 0 < record["product_bias"] < 0.5
    assert pair.held_out[0] > pair.held_out[1] > pair.held_out[2]


def test_held_out_loss_is_that_of_evaluate(lab, pair):
    """Of the adapter after the last round, over the data that both nodes hold out."""
    found = [
        toolkit.evaluate(lab.bundle, lab.folder / f"data-{topic}-24", adapter=pair.path, threads=1)
        for topic in ("ships", "trees")
    ]
    parts = [report.with_adapter for report in found]
    wanted = sum(p.loss * p.tokens for p in parts) / sum(p.tokens for p in parts)
    assert pair.held_out[-1] == pytest.approx(wanted, rel=1e-12)


def test_the_result_is_an_ordinary_adapter(lab, pair, tmp_path):
    merged = toolkit.merge(pair.path, tmp_path / "merged", base=lab.bundle, type="f32")
    assert merged.weights == 14
    card = (pair.path / "README.md").read_text()
    assert "| 1 | 2 |" in card and "| a | 2 |" in card and "| b | 2 |" in card
    assert f"{pair.held_out[-1]:.4g}"[:5] in card
    toolkit.convert(pair.path, tmp_path / "adapter.gguf", base=lab.bundle)


def test_the_card_calls_gradients_approximate_that_are(lab, pair, tmp_path):
    """By the bundle's lowering: here a copy that says of itself what another export would."""
    out, bundle = tmp_path / "out", tmp_path / "bundle"
    shutil.copytree(pair.path, out)
    shutil.copytree(lab.bundle, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    for lowering, said in (("mesp", False), ("approx-bp", True)):
        manifest["lowering"] = lowering
        (bundle / "manifest.json").write_text(json.dumps(seal(manifest)))
        settings = read_federation(lab.config(tmp_path / "lab.yaml", "a", "b", bundle=str(bundle)))
        write_card(out, "tiny", settings, pair.rounds, {"held_out_loss": None})
        card = (out / "README.md").read_text()
        assert (
            "| gradients | approximate, by the lowering approx-bp of the bundle |" in card
        ) is said
    mezo = read_federation(
        lab.config(tmp_path / "m.yaml", "a", bundle=str(bundle), train={"method": "mezo"})
    )
    write_card(out, "tiny", mezo, pair.rounds, {"held_out_loss": None})
    assert "approximate" not in (out / "README.md").read_text()


def test_devices_keep_no_adapters_of_earlier_rounds(lab, pair):
    for node in "ab":
        home = lab.folder / node
        runs = [path.name for path in (home / "runs").iterdir() if _id(pair) in path.name]
        assert runs == [f"fed-{_id(pair)}-{node}"]
        mark = json.loads((home / "federations" / f"{runs[0]}.json").read_text())
        assert mark["round"] == 2 and mark["sent"] and not Path(mark["sent"]).exists()
    kept = [path.name for path in (pair.path / "rounds").glob("*/adapter_model.safetensors")]
    assert len(kept) == 1 and not (pair.path / "replies").exists()


def _id(federated):
    return json.loads((federated.path / "federation.json").read_text())["id"]


def test_more_rounds_go_on_where_it_ended(lab, pair, tmp_path):
    """As if they had been asked for at once; what was fixed at the beginning is not changed."""
    out = tmp_path / "out"
    shutil.copytree(pair.path, out)
    with pytest.raises(ToolkitError, match=r"holds a federation.*--resume"):
        toolkit.federate(pair_config(lab, tmp_path), out)
    other = lab.config(tmp_path / "other.yaml", "a", "b", train={"lr": 0.5})
    with pytest.raises(ToolkitError, match="began with another train"):
        toolkit.federate(other, out, resume=True)
    longer = pair_config(lab, tmp_path, rounds=3)
    more = toolkit.federate(longer, out, resume=True)
    whole = toolkit.federate(longer, tmp_path / "whole")
    assert [record["round"] for record in more.rounds] == [1, 2, 3]
    assert same(more.path, whole.path) and more.held_out == whole.held_out


def test_a_federation_begins_with_an_adapter_and_keeps_to_it(lab, pair, tmp_path):
    config = lab.config(tmp_path / "1.yaml", "a", rounds=1, adapter=str(pair.path))
    result = toolkit.federate(config, tmp_path / "out")
    assert result.held_out[0] < pair.held_out[0]
    bare = lab.config(tmp_path / "2.yaml", "a", rounds=2)
    with pytest.raises(ToolkitError, match="began with another adapter"):
        toolkit.federate(bare, tmp_path / "out", resume=True)
    lacking = tmp_path / "lacking"
    shutil.copytree(pair.path, lacking)
    own = {name: v for name, v in tensors(pair.path).items() if "layers.1.mlp.up" not in name}
    save_file(own, lacking / ADAPTER)
    with pytest.raises(ToolkitError, match=r"has no .*layers.1.mlp.up_proj"):
        toolkit.federate(
            lab.config(tmp_path / "3.yaml", "a", adapter=str(lacking)), tmp_path / "other"
        )


def test_a_folder_of_one_that_had_not_begun_is_taken(lab, tmp_path):
    (tmp_path / "out/rounds/.0000.left").mkdir(parents=True)
    config = lab.config(tmp_path / "lab.yaml", "a", rounds=1, evaluate="off")
    toolkit.federate(config, tmp_path / "out")
    assert (tmp_path / "out/adapter_model.safetensors").is_file()


@pytest.mark.parametrize("weights", [("a", "b"), ("a", "twin", "b")], ids=len)
def test_the_mean_of_b_is_the_mean_of_products_where_exact_steps_leave_a(lab, tmp_path, weights):
    """Of what the trainers came to on their devices, over all projections together."""
    options = {"rounds": 1, "evaluate": "off", "train": {"lr": 0.013, "freeze": "a"}}
    config = lab.config(tmp_path / "lab.yaml", *weights, aggregate="ffa", **options)
    result = toolkit.federate(config, tmp_path / "out")
    own = tensors(result.path)
    pairs = [(n, n.replace(".lora_A.", ".lora_B.")) for n in own if ".lora_A." in n]
    wanted = {a: 0.0 for a, _ in pairs}
    nodes = result.rounds[0]["nodes"]
    for node in nodes:
        run = tensors(lab.folder / node["node"] / "runs" / f"fed-{_id(result)}-{node['node']}")
        share = node["labelled"] / sum(n["labelled"] for n in nodes)
        for a, b in pairs:
            assert run[a].tobytes() == own[a].tobytes()
            wanted[a] += share * (run[b].astype(np.float64) @ run[a])
    off = sum(np.sum((own[b].astype(np.float64) @ own[a] - wanted[a]) ** 2) for a, b in pairs)
    size = sum(np.sum(product**2) for product in wanted.values())
    assert size > 0 and np.sqrt(off / size) < 1e-6
    assert result.rounds[0]["product_bias"] < 1e-6


def test_ffa_leaves_a_and_stack_makes_the_mean_of_products(lab, tmp_path):
    methods = {
        "ffa": {"train": {"method": "mobizo", "lr": 0.01}},
        "stack": {"state": "drop", "train": {"lr": 0.01}},
    }
    reader = Bundle.open(lab.bundle).adapter
    start = {PEFT_PREFIX + name: reader.tensor(name).numpy() for name in reader}
    for aggregate, options in methods.items():
        config = lab.config(
            tmp_path / f"{aggregate}.yaml", "a", "b", aggregate=aggregate, evaluate="off", **options
        )
        result = toolkit.federate(config, tmp_path / aggregate)
        assert result.held_out == [None, None, None]
        changed = {n.split(".lora_")[1][0] for n, v in tensors(result.path).items()
                   if v.tobytes() != start[n].tobytes()}  # fmt: skip
        assert changed == ({"B"} if aggregate == "ffa" else {"A", "B"})
        bias = [record["product_bias"] for record in result.rounds]
        runs = [path.name for path in (lab.folder / "a/runs").iterdir() if _id(result) in path.name]
        assert runs == [f"fed-{_id(result)}-a" + "-2" * (aggregate == "stack")]
        assert max(bias) < 1e-6 if aggregate == "ffa" else 0 < max(bias) < 0.5
