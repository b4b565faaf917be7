"""The nearest published model is found, and never passed off as the same one."""

import pytest

from toolkit.trace.published import all_figures, compare_with_published, parameters_in_billions
from toolkit.trace.schema import Bundle, Run


def run(model: str, lowering: str = "mesp", **bundle) -> Run:
    return Run(version=1, model=model, lowering=lowering, bundle=Bundle(**bundle))


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("SmolLM2-135M-Instruct", 0.135),
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.5),
        ("qwen2.5-1.5b", 1.5),
        ("meta-llama/Llama-3.2-3B", 3.0),
        ("SmolLM2-1.7B", 1.7),
        ("tiny", None),
        ("0b", None),
        ("9" * 400 + "b", None),
    ],
)
def test_size_from_the_name(model: str, billions: float | None) -> None:
    assert parameters_in_billions(run(model)) == billions


def test_size_from_the_bytes_of_the_base() -> None:
    assert parameters_in_billions(run("mine", base_bytes=281_250_000)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("model", "nearest", "same"),
    [
        ("SmolLM2-135M-Instruct", "Qwen2.5-0.5B", False),
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen2.5-0.5B", True),
        ("qwen2.5-1.5b", "Qwen2.5-1.5B", True),
        ("Qwen2.5-3B", "Qwen2.5-3B", True),
        ("Llama-3.2-1B", "Gemma3-1B", False),
        ("gemma-3-4b-it", "Gemma3-4B", True),
        ("Qwen3-0.6B", "Qwen3-0.6B", True),
        ("Llama-3-70B", "Gemma3-4B", False),
    ],
)
def test_nearest_model(model: str, nearest: str, same: bool) -> None:
    comparison = compare_with_published(run(model))
    assert (comparison.model, comparison.same_model) == (nearest, same)
    assert {figure.model for figure in comparison.figures} == {nearest}


def test_closest_figure_has_method_and_length() -> None:
    closest = compare_with_published(run("Qwen2.5-0.5B", seq_len=512)).closest
    assert (closest.method, closest.seq_len, closest.megabytes) == ("MeSP", 512, 245.8)
    closest = compare_with_published(run("Qwen2.5-0.5B", "mebp", seq_len=256)).closest
    assert (closest.megabytes, closest.seconds) == (360.8, 0.68)
    assert compare_with_published(run("Qwen2.5-0.5B", seq_len=300)).closest is None


def test_unknown_size_compares_with_nothing() -> None:
    assert compare_with_published(run("tiny")) is None


def test_every_figure_names_its_source() -> None:
    figures = all_figures()
    assert len(figures) == 24
    assert all(f.source and f.device and f.measured and f.settings for f in figures)
