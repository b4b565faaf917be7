"""Replies of the engine against `transformers` on the same, dequantized weights."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.oracle.rows import mixed_rows
from tests.runtime.engine.training.test_errors import rewrite
from tests.runtime.running import probe
from tests.support.bundles import export_tiny
from tests.support.generation import Replier
from tests.support.trainer import run_trainer
from toolkit.bundle.bundle import Bundle
from toolkit.data.dataset import write_rows
from toolkit.data.samples import Rows
from toolkit.families import FAMILIES
from toolkit.oracle.model import build_model
from toolkit.oracle.verification import write_perturbed_adapter

VOCAB = 150
PROMPT = [3, 140, 77, 5, 9, 9, 61, 120, 33, 8, 101]


def export(folder, family, lowering="mesp"):
    export_tiny(folder / "bundle", family, lowering=lowering, generation=True)
    write_perturbed_adapter(Bundle.open(folder / "bundle"), folder / "adapter.ptd", seed=3)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A bundle, whose programs train with the other lowering, and an adapter."""
    return export(tmp_path_factory.mktemp("llama"), "llama", "mebp")


@pytest.fixture
def replier(llama):
    with Replier(llama / "bundle", max_tokens=12, adapter="none") as replier:
        yield replier


def greedy(model, prompt: list[int], count: int) -> list[int]:
    """Return the likeliest tokens one by one, each from all that is before it."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def log_probabilities(model, tokens: list[int]) -> torch.Tensor:
    """Return those of every token but the first, float64 [T - 1]."""
    with torch.no_grad():
        found = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return found[:-1].gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_replies_and_probabilities_are_those_of_transformers(family, tmp_path):
    """Past windows, the change of Phi's frequencies, and the end of the first part of a prompt."""
    folder = export(tmp_path, family)
    bundle = Bundle.open(folder / "bundle")
    with Replier(folder / "bundle", part=4, max_tokens=20) as replier:
        for adapter in ("none", folder / "adapter.ptd"):
            model = build_model(bundle, None if adapter == "none" else adapter, torch.float64)
            reply, report = replier.reply(PROMPT, adapter=adapter)
            assert reply == greedy(model, PROMPT, 20), adapter
            assert report["reason"] == "length"
            expected = log_probabilities(model, PROMPT + reply)
            # Two layers with sums of a hundred terms: some 32 roundings of the largest value in
            # one token's probability; in a loss, their mean, next to nothing is left of them.
            bound = 32 * torch.finfo(torch.float32).eps * float(expected.abs().max())
            for part in (12, 4):  # more rows behind others are multiplied in another way than few
                found = replier.score(PROMPT + reply, part=part)
                scores = torch.tensor(found, dtype=torch.float64)
                torch.testing.assert_close(scores, expected, rtol=0, atol=bound)
                assert abs(float((scores - expected).mean())) < 1e-5


def test_evaluate_says_what_the_tokens_have_one_by_one(llama, tmp_path):
    tokens = mixed_rows(24, VOCAB, seed=5).tokens[:1]
    labels = np.concatenate([tokens[:, 1:], np.full((1, 1), -100, dtype=np.int32)], 1)
    positions = np.arange(24, dtype=np.int32)[None]
    rows = Rows(tokens, labels, positions, np.zeros_like(positions))
    write_rows(tmp_path / "text.ptd", rows)
    words = ("--bundle", llama / "bundle", "--data", tmp_path / "text.ptd")
    adapter = llama / "adapter.ptd"
    loss = run_trainer("evaluate", *words, "--adapter", adapter)[-1]["loss"]
    with Replier(llama / "bundle", adapter=adapter, part=1) as replier:
        scores = replier.score(tokens[0].tolist())
    assert -sum(scores) / 23 == pytest.approx(loss, abs=1e-5)


def test_weights_lie_where_huge_pages_of_their_file_fit(replier, llama):
    """Read from pages of 4 KiB they come at half the speed."""
    huge = 2 << 20
    maps = Path(f"/proc/{replier.process.pid}/maps").read_text().splitlines()
    found = [line.split() for line in maps if line.endswith(str(llama / "bundle/base.ptd"))]
    assert found
    for addresses, _, offset, *_ in found:
        begin = int(addresses.partition("-")[0], 16)
        assert (begin - int(offset, 16)) % huge == 0


def test_what_is_known_is_not_computed_again(replier, llama):
    first, report = replier.reply(PROMPT)
    assert report["reused_tokens"] == 0
    longer = [*PROMPT, *first, 7, 8]
    second, report = replier.reply(longer)
    assert report["reused_tokens"] == len(PROMPT) + len(first) - 1
    other, report = replier.reply([*PROMPT[:6], 1, 2])
    assert report["reused_tokens"] == 6
    with Replier(llama / "bundle", max_tokens=12, adapter="none") as fresh:
        assert fresh.reply(longer)[0] == second
    with Replier(llama / "bundle", max_tokens=12, adapter="none") as fresh:
        assert fresh.reply([*PROMPT[:6], 1, 2])[0] == other


def test_adapters_are_switched_and_have_caches_of_their_own(replier, llama):
    without, _ = replier.reply(PROMPT)
    trained, report = replier.reply(PROMPT, adapter=llama / "adapter.ptd")
    assert report["reused_tokens"] == 0 and report["adapter_bytes"] > 0
    assert trained != without
    again, report = replier.reply(PROMPT, adapter="none")
    assert again == without
    assert report["reused_tokens"] == len(PROMPT) - 1 and report["adapter_bytes"] == 0


def test_texts_of_the_two_last_adapters_are_kept(replier, llama, tmp_path):
    first, second = (
        shutil.copy(llama / "adapter.ptd", tmp_path / f"{name}.ptd") for name in ("first", "second")
    )
    for adapter, reused in (("none", 0), (first, 0), ("none", 10), (second, 0), ("none", 10)):
        _, report = replier.reply(PROMPT, adapter=adapter)
        assert report["reused_tokens"] == reused, adapter
    _, report = replier.reply(PROMPT, adapter=first)
    assert report["reused_tokens"] == 0


def test_an_adapter_that_is_replaced_is_read_again(replier, llama, tmp_path):
    place = tmp_path / "adapter.ptd"
    shutil.copy(llama / "adapter.ptd", place)
    before = replier.score(PROMPT, adapter=place)
    write_perturbed_adapter(Bundle.open(llama / "bundle"), tmp_path / "other.ptd", seed=4)
    (tmp_path / "other.ptd").replace(place)
    _, report = replier.reply(PROMPT)
    assert report["reused_tokens"] == 0
    with Replier(llama / "bundle", adapter=place) as fresh:
        assert replier.score(PROMPT) == fresh.score(PROMPT) != before


def test_what_is_computed_again_in_a_reply_is_told_and_can_be_cancelled(tmp_path):
    """Phi's keys change with its frequencies, behind 16 tokens."""
    folder = export(tmp_path, "phi3")
    with Replier(folder / "bundle", part=2, max_tokens=20, adapter="none") as replier:
        records = replier.ask("reply " + " ".join(map(str, PROMPT)))
        kinds = [record["type"] for record in records]
        again = kinds.index("prompt", kinds.index("token"))
        assert records[again]["total"] == again_at(records, again) > len(PROMPT)
        assert [record["done"] for record in records[again : again + 3]] == [2, 4, 6]


def again_at(records: list[dict], place: int) -> int:
    return len(PROMPT) + sum(record["type"] == "token" for record in records[:place])


def test_a_reply_that_is_cancelled_in_its_prompt_says_what_was_computed(replier):
    prompt = PROMPT * 22
    replier.reply(prompt[:10], max_tokens=1)
    replier.send("set part 4")
    record = replier.ask(f"reply {' '.join(map(str, prompt))}\ncancel")[-1]
    assert (record["reason"], record["tokens"]) == ("cancel", 0)
    assert 0 < record["computed_tokens"] < len(prompt) - record["reused_tokens"]
    assert record["reused_tokens"] == 10 and record["prompt_seconds"] > 1e-6
    computed = 10 + record["computed_tokens"]
    _, report = replier.reply(prompt, max_tokens=1)
    assert report["reused_tokens"] == computed
    assert report["computed_tokens"] == len(prompt) - computed


def test_replies_end_where_they_should(replier):
    reply, _ = replier.reply(PROMPT)
    stop = next(i for i, token in enumerate(reply) if i > 2 and token not in reply[:i])
    stopped, report = replier.reply(PROMPT, stop_tokens=f"149,{reply[stop]}")
    assert (stopped, report["reason"]) == (reply[:stop], "stop")
    assert replier.reply(PROMPT, stop_tokens="none")[0] == reply
    replier.send("set stop-tokens 149")
    filled, report = replier.reply(PROMPT * 23, max_tokens=0)
    assert (len(filled), report["reason"]) == (replier.context - len(PROMPT) * 23, "context")
    whole = [*PROMPT * 23, 1, 2, 3]
    assert len(whole) == replier.context
    last, report = replier.reply(whole)
    assert (len(last), report["reason"]) == (1, "context")
    assert replier.reply(PROMPT, max_tokens=12)[0][:stop] == reply[:stop]


def test_a_reply_is_cancelled_and_the_next_is_not(replier):
    replier.send("set max-tokens 0")
    replier.send("reply " + " ".join(map(str, PROMPT)))
    while replier.record()["type"] != "token":
        pass
    replier.send("cancel")
    while (record := replier.record())["type"] == "token":
        pass
    assert record["reason"] == "cancel" and 0 < record["tokens"] < 200
    replier.send("cancel")  # without a reply to be ended
    reply, report = replier.reply(PROMPT, max_tokens=3)
    assert report["reason"] == "length" and len(reply) == 3


def test_answers_have_the_number_of_their_request(replier):
    replier.send("cancel")
    replier.send("set max-tokens 2")
    records = replier.ask("reply 1 2")
    assert {record["request"] for record in records} == {2} and len(records) > 2
    assert replier.ask("score 1 2 3")[0]["request"] == 3
    assert replier.ask("sing")[0]["request"] == 4


def test_mistakes_are_named_and_leave_everything_as_it_was(replier, llama, tmp_path):
    expected, _ = replier.reply(PROMPT)
    wrong = {
        "reply 1 x": "reply takes numbers of tokens",
        "reply": "there are no tokens",
        "reply 150": "token 150 is none of the model's 150",
        "reply " + "1 " * 257: "257 tokens do not fit into the model's context of 256",
        "sing": "'sing' is no request",
        "set temperature hot": "--temperature hot: expected a number",
        "set top-p 2": "--top-p 2: expected 0 to 1",
        "set bundle x": "bundle, threads, context and arithmetic stay",
        "set arithmetic fixed16": "bundle, threads, context and arithmetic stay",
        "set nothing 1": "has no option --nothing",
    }
    for line, message in wrong.items():
        assert message in replier.ask(line)[-1]["message"], line
    replier.send(f"set adapter {tmp_path / 'missing.ptd'}")
    assert "missing.ptd" in replier.ask("reply 1")[-1]["message"]
    replier.send("set stop-tokens 1,150")
    replier.send("set adapter none")
    assert "expected numbers from 0 to 149" in replier.ask("reply 1")[-1]["message"]
    replier.send("set stop-tokens 149")
    assert replier.reply(PROMPT)[0] == expected
    with Replier(llama / "bundle", context=8, adapter="none") as small:
        said = small.ask("reply " + " ".join(map(str, PROMPT)))[-1]["message"]
        assert "11 tokens do not fit into the --context of 8" in said


def test_a_bundle_without_these_programs_says_how_to_get_them(tmp_path):
    export_tiny(tmp_path / "old", "llama")
    replier = Replier(tmp_path / "old")
    _, error = replier.process.communicate()
    assert replier.process.returncode == 1
    said = "has no programs to generate with. Export it again with `toolkit export`\n"
    assert error == f"error: bundle {tmp_path / 'old'} {said}"


SETTINGS = {
    "all": {"temperature": 1.5},
    "some": {"temperature": 2.0, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
    "penalty": {"temperature": 1.0, "top_p": 0.8, "repetition_penalty": 3.0},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_drawn_follows_the_distribution_of_transformers(name, replier, llama):
    settings = SETTINGS[name]
    model = build_model(Bundle.open(llama / "bundle"), None, torch.float64)
    processors = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(settings.get("repetition_penalty", 1.0)),
            TemperatureLogitsWarper(settings["temperature"]),
            TopKLogitsWarper(settings.get("top_k", VOCAB)),
            TopPLogitsWarper(settings.get("top_p", 1.0)),
            MinPLogitsWarper(settings.get("min_p", 0.0)),
        ]
    )
    with torch.no_grad():
        logits = model(torch.tensor([PROMPT])).logits[:, -1]
    expected = processors(torch.tensor([PROMPT]), logits).softmax(-1)[0]
    count = 800
    drawn = torch.zeros(VOCAB, dtype=torch.float64)
    for seed in range(count):
        [token], _ = replier.reply(PROMPT, max_tokens=1, seed=seed, **settings)
        drawn[token] += 1
    assert not drawn[expected == 0].any()
    deviation = (count * expected * (1 - expected)).sqrt()
    assert ((drawn - count * expected).abs() <= 5 * deviation + 1e-9).all()


def test_a_seed_gives_the_same_reply_and_narrow_choices_the_likeliest(replier):
    likeliest, _ = replier.reply(PROMPT)
    drawn = [replier.reply(PROMPT, temperature=1, seed=seed)[0] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    for name, value, back in (("top_k", 1, 0), ("top_p", 0, 1), ("min_p", 1, 0)):
        assert replier.reply(PROMPT, **{name: value})[0] == likeliest, name
        replier.send(f"set {name.replace('_', '-')} {back}")


@pytest.mark.parametrize("settings", [{}, {"top_k": 5}, {"top_p": 0.5}, {"min_p": 0.1}])
def test_next_to_no_temperature_takes_the_likeliest(settings, replier):
    likeliest, _ = replier.reply(PROMPT)
    for temperature in (1e-40, 1e-300):
        assert replier.reply(PROMPT, temperature=temperature, **settings)[0] == likeliest


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0, 0.7])
def test_logits_that_are_not_finite_are_an_error(value, temperature):
    logits = np.linspace(-1, 1, 40, dtype=np.float32)
    words = ("choose", len(logits), 1e-40, 1)
    assert int(probe(*words, stdin=logits.tobytes())) == 39
    logits[7] = value
    said = probe("choose", len(logits), temperature, 1, stdin=logits.tobytes(), fails=True)
    assert b"the logits are not finite. Use another adapter or export the bundle again" in said


def test_probabilities_of_logits_that_are_not_finite_are_an_error(replier, llama, tmp_path):
    """One row of the last layer overflows, which is not the last one of its part."""
    text = [*PROMPT, PROMPT[0]]
    down = "layers.1.mlp.down_proj.lora_"
    adapter = tmp_path / "adapter.ptd"
    shutil.copy(llama / "adapter.ptd", adapter)

    def enlarge(factor):
        def change(tensors):
            for part in "AB":
                tensors[f"{down}{part}.weight"] *= factor

        rewrite(adapter, change)

    enlarge(1e9)
    model = build_model(Bundle.open(llama / "bundle"), adapter, torch.float64)
    rows = []
    [last] = [one for name, one in model.named_modules() if name.endswith(".layers.1")]
    last.register_forward_hook(
        lambda layer, given, output: rows.append(torch.as_tensor(output).abs().amax(-1).flatten())
    )
    with torch.no_grad():
        model(torch.tensor([text]))
    *_, second, most = rows[0].sort().values
    assert rows[0][-1] < most  # else the last row is the one
    enlarge(float((torch.finfo(torch.float32).max / (second * most).sqrt()).sqrt()))
    failed = replier.ask(f"set adapter {adapter}\nscore 1 {' '.join(map(str, text))}")[-1]
    assert "the logits are not finite. Use another adapter" in failed.get("message", failed)


def test_probabilities_of_the_end_of_a_text_reuse_its_beginning(replier):
    text = [*PROMPT, 4, 5, 6]
    whole = replier.score(text, part=3)
    for given in (1, 7, len(PROMPT), len(text)):
        assert replier.score(text, given) == pytest.approx(whole[given - 1 :], abs=1e-5)
    for ending in ([4, 90, 91], [140], []):
        found = replier.score([*PROMPT, *ending], len(PROMPT))
        with Replier(replier.bundle, adapter="none") as fresh:
            expected = fresh.score([*PROMPT, *ending], len(PROMPT))
        assert found == pytest.approx(expected, abs=1e-5)
    for request in ("score 0 1 2", "score 3 1 2", "score", "score 1"):
        assert replier.ask(request)[-1]["type"] == "failed", request
