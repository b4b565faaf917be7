"""Data of another tokenizer is refused by name."""

import pytest
from transformers import AutoTokenizer

from tests.support.chatml import QWEN2, SMOLLM2, make_tokenizer
from tests.support.tiny import tiny_config
from toolkit.bundle.adapter import LoraSettings
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.export import ExportSettings, export_bundle
from toolkit.bundle.layout import parameter_shapes
from toolkit.data.fingerprint import check_same_tokenizer, describe_tokenizer
from toolkit.data.prepare import Settings, prepare, prepare_random
from toolkit.data.tokenizers import bundle_metadata, load_tokenizer
from toolkit.errors import ToolkitError
from toolkit.sources.random import RandomSource


class _WithTokenizer(RandomSource):
    def save_tokenizer(self, directory):
        make_tokenizer(SMOLLM2).save_pretrained(directory)
        return True


def _export(folder, source_class=_WithTokenizer):
    config = tiny_config("llama", layers=1)
    config.vocab_size = 400
    source = source_class(config, parameter_shapes(config), "some-model", seed=1)
    export_bundle(source, folder, ExportSettings(LoraSettings(2, 4.0, ("q_proj",)), (24,)))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return _export(tmp_path_factory.mktemp("bundle") / "bundle")


def _texts(folder):
    (folder / "text.txt").write_text("hello there, how are you doing today? " * 40)
    return [folder / "text.txt"]


def test_what_the_bundles_own_tokenizer_made_is_accepted_under_its_name(tmp_path, bundle):
    manifest = Bundle.open(bundle).manifest
    report = prepare(_texts(tmp_path), load_tokenizer(str(bundle)), Settings(24), tmp_path / "data")
    assert report["tokenizer"] == manifest["tokenizer"]
    assert report["tokenizer"]["name"] == "some-model"
    check_same_tokenizer(manifest, report)


def test_another_tokenizer_is_refused_by_name(tmp_path, bundle):
    make_tokenizer(QWEN2).save_pretrained(tmp_path / "other-model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "other-model")
    report = prepare(_texts(tmp_path), tokenizer, Settings(24), tmp_path / "data")
    with pytest.raises(ToolkitError) as error:
        manifest = Bundle.open(bundle).manifest
        check_same_tokenizer(manifest, report, bundle="bundle 'tiny'", data="data 'chat'")
    assert str(error.value) == (
        "data 'chat' was made with the tokenizer of other-model, bundle 'tiny' has the tokenizer "
        "of some-model. Make it again with: toolkit data FILE --tokenizer BUNDLE"
    )


def test_vocabulary_and_template_both_count():
    described = describe_tokenizer(make_tokenizer(SMOLLM2), "a")
    assert described == describe_tokenizer(make_tokenizer(SMOLLM2), "a")
    assert described["sha256"] != describe_tokenizer(make_tokenizer(QWEN2), "a")["sha256"]
    longer = make_tokenizer(SMOLLM2)
    longer.add_tokens(["<another>"])
    assert described["sha256"] != describe_tokenizer(longer, "a")["sha256"]


def test_random_tokens_belong_to_their_bundle(tmp_path, bundle):
    manifest = Bundle.open(bundle).manifest
    facts = bundle_metadata(bundle)
    check_same_tokenizer(
        manifest,
        prepare_random(2, 24, facts.vocab_size, 0, tmp_path / "own", facts.tokenizer),
    )
    with pytest.raises(ToolkitError, match="random tokens for another"):
        check_same_tokenizer(manifest, prepare_random(2, 24, 400, 0, tmp_path / "other"))


def test_random_weights_take_any_tokens(tmp_path, bundle):
    manifest = Bundle.open(_export(tmp_path / "random", RandomSource)).manifest
    assert manifest["tokenizer"] is None
    check_same_tokenizer(manifest, {"tokenizer": Bundle.open(bundle).manifest["tokenizer"]})
