"""Prompts and ends of replies: as training writes them, and as the model's files name them."""

import json
import shutil

import pytest
from tokenizers.processors import TemplateProcessing

from tests.support.chatml import QWEN2, make_tokenizer
from tests.support.models import save_model
from tests.support.tiny import tiny_config
from toolkit.bundle.bundle import Bundle
from toolkit.bundle.export import ExportSettings, export_bundle
from toolkit.data.documents import Document
from toolkit.data.encode import DocumentEncoder
from toolkit.data.template import FILE
from toolkit.errors import ToolkitError
from toolkit.generation.prompts import Prompts
from toolkit.lora import PROJECTIONS, LoraSettings
from toolkit.sources import open_source
from toolkit.sources.bundle import BundleSource

ENDS = [3, 7]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Of a model whose tokenizer begins texts with a token and whose replies end with others."""
    folder = tmp_path_factory.mktemp("prompts")
    config = tiny_config("llama")
    config.vocab_size = 448
    save_model(folder / "model", "llama", config=config)
    tokenizer = make_tokenizer(QWEN2)
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", tokenizer.bos_token_id)]
    )
    tokenizer.save_pretrained(folder / "model")
    generation = {"eos_token_id": ENDS, "temperature": 0.6}
    (folder / "model" / "generation_config.json").write_text(json.dumps(generation))
    settings = ExportSettings(LoraSettings(4, 8.0, PROJECTIONS), (16,), generation=False)
    export_bundle(open_source(str(folder / "model")), folder / "bundle", settings)
    return Bundle.open(folder / "bundle")


def test_a_plain_prompt_begins_as_a_document_of_training_does(bundle):
    prompts = Prompts(bundle, plain=True)
    encoder = DocumentEncoder(prompts.tokenizer, 64, loss="all", long="truncate", template=False)
    for text in ("hello there", "<|endoftext|>hello there"):
        [piece] = encoder.pieces(Document("here", text=text))
        learned = [*piece.inputs.tolist(), int(piece.labels[-1])][:-1]  # without the end
        assert prompts.tokens(text) == learned
    assert prompts.tokens("<|endoftext|>hello there") == prompts.tokens("hello there")
    with pytest.raises(ToolkitError, match="plain text has no messages"):
        prompts.tokens([{"role": "user", "content": "hello"}])


def test_the_token_that_ends_every_text_is_in_no_prompt(bundle):
    prompts = Prompts(bundle, plain=True)
    tokenizer = prompts.tokenizer
    expected = prompts.tokens("hello there")
    ending = TemplateProcessing(
        single="<|endoftext|> $A <|im_end|>",
        special_tokens=[
            (token, tokenizer.convert_tokens_to_ids(token))
            for token in ("<|endoftext|>", "<|im_end|>")
        ],
    )
    before = tokenizer.backend_tokenizer.post_processor
    tokenizer.backend_tokenizer.post_processor = ending
    try:
        assert tokenizer("hello there")["input_ids"] == [*expected, tokenizer.eos_token_id]
        assert prompts.tokens("hello there") == expected
        written = prompts.tokens("hello there<|im_end|>")
        assert written[-1] == tokenizer.eos_token_id != expected[-1]
        encoder = DocumentEncoder(tokenizer, 64, loss="all", long="truncate", template=False)
        [joined] = encoder.pieces(Document("here", prompt="hello there", completion=" you"))
        tokens = [*joined.inputs.tolist(), int(joined.labels[-1])]
        assert tokens.index(tokenizer.eos_token_id) == len(tokens) - 1
    finally:
        tokenizer.backend_tokenizer.post_processor = before


def test_a_text_is_what_a_user_says_unless_it_is_plain(bundle, tmp_path):
    chat, plain = Prompts(bundle), Prompts(bundle, plain=True)
    assert (chat.template, plain.template) == ("bundle", None)
    said = [{"role": "user", "content": "hello"}]
    assert chat.tokens("hello") == chat.tokens(said) != plain.tokens("hello")
    assert chat.with_replies("hello", ["a", "b"]) == chat.with_replies(said, ["a", "b"])
    (tmp_path / FILE).write_text(QWEN2)
    assert Prompts(bundle, tmp_path).template == "adapter"


def test_white_space_behind_a_plain_prompt_begins_the_choices(bundle):
    prompts = Prompts(bundle, plain=True)
    whole = prompts.tokens("hello there")
    for prompt, choice in (("hello ", "there"), ("hello", " there")):
        [(tokens, first)] = prompts.with_replies(prompt, [choice])
        assert tokens == whole and tokens[:first] == prompts.tokens("hello")
    apart = prompts.tokens("hello ")
    assert apart != prompts.tokens("hello")  # which a reply still goes on with


def test_replies_end_where_the_generation_config_says(bundle):
    prompts = Prompts(bundle)
    assert {*ENDS, prompts.tokenizer.eos_token_id} <= set(prompts.stop_tokens())
    source = BundleSource(bundle.path)
    assert json.loads(source.generation_config().read_text())["eos_token_id"] == ENDS


def test_special_tokens_that_stop_are_tokens_and_texts_are_texts(bundle):
    prompts = Prompts(bundle)
    start = prompts.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert start not in prompts.stop_tokens()
    stops = ("<|im_start|>", "the end")
    assert start in prompts.stop_tokens(stops)
    assert prompts.stop_texts(stops) == ("the end",)
    with pytest.raises(ToolkitError, match=r"special token <\|im_start\|> and other text"):
        prompts.stop_texts(["a<|im_start|>"])


def test_a_template_that_hides_replies_ends_none(bundle, tmp_path):
    """Training refuses to mask it, but a model that knows it can be talked to."""
    template = "{% for m in messages %}{{ m['content'][:1] }}\n{% endfor %}"
    (tmp_path / FILE).write_text(template)
    prompts = Prompts(bundle, tmp_path)
    chat = [{"role": "user", "content": "u"}]
    assert prompts.tokenizer.decode(prompts.tokens(chat)) == "u\n"
    assert set(ENDS) <= set(prompts.stop_tokens())


def test_the_oldest_exchanges_are_left_out_of_a_chat_that_is_too_long(bundle):
    prompts = Prompts(bundle)
    roles = ["system", *("user", "assistant") * 3, "user"]
    chat = [{"role": role, "content": f"hello {i}"} for i, role in enumerate(roles)]
    whole = len(prompts.tokens(chat))
    assert prompts.fitting(chat, whole) == chat
    assert prompts.fitting(chat, whole - 1) == [chat[0], *chat[3:]]
    shortest = [chat[0], chat[-1]]
    assert prompts.fitting(chat, len(prompts.tokens(shortest))) == shortest
    assert prompts.fitting(chat, 1) == shortest


def test_a_damaged_generation_config_is_named(bundle, tmp_path):
    damaged = Bundle.open(shutil.copytree(bundle.path, tmp_path / "bundle"))
    (damaged.path / "generation_config.json").write_text("[]")
    with pytest.raises(ToolkitError, match=r"generation_config.json is no JSON object. Correct"):
        Prompts(damaged, plain=True)
