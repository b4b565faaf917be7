"""Config files: what they may say, and that they give the same settings again."""

import json

import pytest
import yaml

from toolkit.errors import ToolkitError
from toolkit.settings.config import read_config, save_config
from toolkit.settings.training import FLAGS, TrainSettings

EVERY = {str: "a", int: "1", float: "0.5"}


def written(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_every_flag_may_be_in_it_and_comes_back(tmp_path):
    words = {flag: (*known.choices, EVERY[known.type])[0] for flag, known in FLAGS.items()}
    path = written(tmp_path, yaml.safe_dump(words))
    assert read_config(path) == {flag: FLAGS[flag].value_of(word) for flag, word in words.items()}


def test_numbers_and_names_are_written_as_people_do(tmp_path):
    text = "learning_rate: 5e-4\ngrad_accum: 4\nout: run1\nseed:\nmin-lr: .00001\n"
    found = read_config(written(tmp_path, text))
    assert found == {"lr": 5e-4, "grad-accum": 4, "out": "run1", "min-lr": 1e-5}
    assert read_config(written(tmp_path, "# nothing\n")) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rat: 1", "unknown setting 'learning_rat'. Did you mean learning-rate?"),
        ("lr: fast", "--lr takes a number, not 'fast'"),
        ("lr: [1, 2]", "--lr takes a number, not ['1', '2']"),
        ("steps: yes", "--steps takes a whole number, not 'yes'"),
        ("schedule: cosin", "--schedule cosin is unknown. Did you mean cosine?"),
        ("- lr", "holds no settings"),
        ("lr: [", "is no YAML"),
        ("1: 2", "unknown setting '1'"),
        ("steps: 1:30", "--steps takes a whole number, not '1:30'"),
        ("lr: 1e-4\nseed: 1\nlr: 2e-4", "'lr' is there twice"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path, text, words):
    with pytest.raises(ToolkitError) as error:
        read_config(written(tmp_path, text))
    assert words in str(error.value) and "run.yaml" in str(error.value)


def test_words_need_no_quotes_and_numbers_no_care(tmp_path):
    text = "layers: 5\nout: 2026-11-28\ndevice: 1234567890\nseed: 010\nbundle: 007\ndata:\n"
    assert read_config(written(tmp_path, text)) == {
        "layers": "5",
        "out": "2026-11-28",
        "device": "1234567890",
        "seed": 10,
        "bundle": "007",
    }


def test_a_home_directory_is_found_as_in_a_shell(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_config(written(tmp_path, "adapter: ~/x"))["adapter"] == f"{tmp_path}/x"


def test_a_missing_file_and_one_of_bytes(tmp_path):
    with pytest.raises(ToolkitError, match=r"nothing.yaml cannot be read: No such file"):
        read_config(tmp_path / "nothing.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ToolkitError, match="it is no text"):
        read_config(tmp_path / "bytes.yaml")


def test_what_is_saved_is_in_effect_and_read_again(tmp_path):
    path = tmp_path / "run.yaml"
    save_config(path, {"epochs": 2.0, "lr": 1e-5, "optimizer": "lion", "out": "run1"})
    found = read_config(path)
    settings = TrainSettings(epochs=2, learning_rate=1e-5, optimizer="lion").effective()
    assert found == {"out": "run1", **settings.flags()} and found["beta2"] == 0.99
    text = path.read_text()
    assert "# Learning rate.  [default: 0.0001]\nlr: 1.0e-05\n" in text
    assert "\n# save-every:\n" in text and all(flag in text for flag in FLAGS)


def test_the_settings_of_a_run_are_a_config(tmp_path):
    path = tmp_path / "settings.json"
    own = {"name": "run1", "id": "ab", "bundle-sha256": "cd", "data-sha256": "ef"}
    path.write_text(json.dumps({**own, "bundle": "b", "lr": 1e-08}))
    assert read_config(path) == {"bundle": "b", "lr": 1e-8}
