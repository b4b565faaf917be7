"""Data made with a chat template from a file: found exactly, recorded, and fit for the bundle."""

import hashlib
import json

import pytest

from tests.support.chatml import SMOLLM2, make_tokenizer
from toolkit.data.chat import ChatEncoder
from toolkit.data.dataset import read_rows
from toolkit.data.fingerprint import DATA_FORMAT_VERSION, check_same_tokenizer, describe_tokenizer
from toolkit.data.prepare import prepare
from toolkit.data.samples import IGNORED
from toolkit.data.settings import Settings
from toolkit.data.template import ChatTemplate, read_template
from toolkit.errors import ToolkitError

PLAIN = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MARKED = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)
CHAT = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "fine, you?"}]
TEXT = "<user>hello<|im_end|><assistant>fine, you?<|im_end|>"


@pytest.fixture
def chats(tmp_path):
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": CHAT}) + "\n")
    return tmp_path / "chats.jsonl"


def shown(folder, tokenizer) -> tuple[str, str]:
    """Return the text of the first row up to its last label, and the text of its labels."""
    rows = read_rows(folder / "train.ptd")
    labels = rows.labels[0]
    learned = labels[labels != IGNORED]
    last = int((labels != IGNORED).nonzero()[0][-1])
    return tokenizer.decode([*rows.tokens[0][: last + 1], learned[-1]]), tokenizer.decode(learned)


@pytest.mark.parametrize("own", [SMOLLM2, None])
@pytest.mark.parametrize("template", [PLAIN, MARKED])
def test_tokens_and_labels_are_those_of_the_file(tmp_path, chats, own, template):
    """Also where the tokenizer, of a base model, has no template of its own."""
    tokenizer = make_tokenizer(own)
    (tmp_path / "my.jinja").write_text(template)
    chosen = read_template(tmp_path / "my.jinja")
    assert ChatEncoder(tokenizer, chosen).marked == (template == MARKED)
    settings = Settings(64, validation=0, chat_template=chosen)
    prepare([chats], tokenizer, settings, tmp_path / "out")
    assert shown(tmp_path / "out", tokenizer) == (TEXT, "fine, you?<|im_end|>")
    assert tokenizer.chat_template == own


def test_prompts_and_completions_go_through_it_too(tmp_path, smollm2):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"prompt": "hello", "completion": "fine, you?"}))
    settings = Settings(64, validation=0, chat_template=ChatTemplate("my.jinja", PLAIN))
    prepare([path], smollm2, settings, tmp_path / "out")
    assert shown(tmp_path / "out", smollm2) == (TEXT, "fine, you?<|im_end|>")


def test_the_data_is_another_and_the_bundle_the_same(tmp_path, chats, smollm2):
    template = ChatTemplate("my.jinja", PLAIN)
    for name, chosen in (("own", None), ("other", template)):
        settings = Settings(64, validation=0, chat_template=chosen)
        report = prepare([chats], smollm2, settings, tmp_path / name)
        assert report["tokenizer"] == describe_tokenizer(smollm2)
        bundle = {"tokenizer": describe_tokenizer(smollm2, "some model")}
        assert report["version"] == DATA_FORMAT_VERSION
        check_same_tokenizer(bundle, report)
        digest = chosen and hashlib.sha256(PLAIN.encode()).hexdigest()
        assert report["chat_template"] == (chosen and {"name": "my.jinja", "sha256": digest})
        assert ("chat_template.jinja" in report["files"]) == (chosen is not None)
    assert (tmp_path / "other/chat_template.jinja").read_text() == PLAIN
    assert report["files"]["chat_template.jinja"]["sha256"] == digest
    assert "chat_template" not in report["settings"]
    assert not (tmp_path / "own/chat_template.jinja").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the chat template .*my.jinja: No such file"),
        (b"\xff\xfe messages", "my.jinja is not UTF-8"),
        (b"hello {{ name }}", "my.jinja is no chat template: it never names `messages`"),
        (b"{% for m in messages %}\n{{ m.role }\n", "my.jinja:2: not a Jinja template: unexpected"),
        (b"{% for m in messages %}x{% endfor %}", "c.jsonl:1: .*does not show the assistant"),
    ],
)
def test_what_is_no_template_is_said(tmp_path, chats, smollm2, content, message):
    path = tmp_path / "my.jinja"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ToolkitError, match=message.replace("c.jsonl", "chats.jsonl")):
        settings = Settings(64, chat_template=read_template(path))
        prepare([chats], smollm2, settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_template_that_nothing_goes_through_is_refused(tmp_path, smollm2):
    template = ChatTemplate("my.jinja", PLAIN)
    (tmp_path / "a.txt").write_text("hello there " * 20)
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "completion": "b"}')
    for name, own, remedy in (("a.txt", True, "Leave it away"), ("p.jsonl", False, "Leave it, or")):
        settings = Settings(64, template=own, chat_template=template)
        with pytest.raises(ToolkitError, match="is a chat, which --chat-template is for") as error:
            prepare([tmp_path / name], smollm2, settings, tmp_path / "out")
        assert error.value.remedy.startswith(remedy)
