"""Every family's special tokens and form of template: the mask is the replies, whole and alone."""

import copy
import json

import numpy as np
import pytest

from tests.support.family_templates import TEMPLATES
from tests.support.family_tokenizers import FAMILIES, trained, wrapped
from toolkit.data.chat import ChatEncoder
from toolkit.data.documents import Document
from toolkit.data.encode import DocumentEncoder
from toolkit.data.template import on_one_day

CHAT = [
    {"role": "user", "content": "hello there"},
    {"role": "assistant", "content": "I am fine, it's 12345 o'clock.\nAnd you?"},
    {"role": "user", "content": "the assistant said hello"},
    {"role": "assistant", "content": "fine\n\nand you 東京 🙂"},
]
REPLIES = [message["content"] for message in CHAT if message["role"] == "assistant"]
SYSTEM = {"role": "system", "content": "Answer in one line."}
END = {
    "smollm2": "<|im_end|>",
    "llama3.2": "<|eot_id|>",
    "smollm3": "<|im_end|>",
    "qwen2.5": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "gemma3": "<end_of_turn>",
    "phi3": "<|end|>",
    "phi4": "<|end|>",
    "olmo2": "<|endoftext|>",
    "granite3": "<|end_of_text|>",
}
NO_THOUGHT = "<think>\n\n</think>\n\n"
_LINES = [
    "hello there, how are you doing today?\n",
    "I am fine, thank you!\n\nAnd you? 12345\n",
    "the assistant said hello to the user and the model\n",
    "system user assistant model Today: think Answer in one line\n",
] * 20


@pytest.fixture(scope="module")
def tokenizers():
    """A tokenizer of every family with its template."""
    return {name: wrapped(name, trained(name, 700, _LINES), TEMPLATES[name]) for name in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def runs(encoded, tokenizer) -> list[str]:
    """Return the text of every run of learned tokens."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], encoded.mask.astype(int), [0]])))
    return [tokenizer.decode(encoded.tokens[a:b]) for a, b in edges.reshape(-1, 2)]


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def turn_by_turn(tokenizer, chat) -> tuple[list[int], list[bool]]:
    """Independent of offsets: the prompt of the last turn and what it is answered with, apart."""
    tokenizer = copy.copy(tokenizer)
    tokenizer.chat_template = on_one_day(tokenizer.chat_template)
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    prompt = tokenizer.apply_chat_template(chat[:-1], tokenize=False, add_generation_prompt=True)
    assert text.startswith(prompt)
    return ids(tokenizer, prompt), ids(tokenizer, text)


@pytest.mark.parametrize("system", [False, True])
def test_runs_are_the_replies_each_with_its_end(tokenizers, family, system):
    tokenizer = tokenizers[family]
    chat = [SYSTEM, *CHAT] if system else CHAT
    found = [run for part in ChatEncoder(tokenizer).encode(chat) for run in runs(part, tokenizer)]
    expected = [reply + END[family] for reply in REPLIES]
    if family == "qwen3":  # as it writes them: with thoughts, and so each in its own rendering
        expected = [NO_THOUGHT + reply for reply in reversed(expected)]
    assert found == expected


def test_the_last_reply_is_what_follows_the_prompt(tokenizers, family):
    """Token by token: all behind the prompt's tokens to the end of the turn, and none before."""
    tokenizer = tokenizers[family]
    chat = CHAT[:2]
    prompt, whole = turn_by_turn(tokenizer, chat)
    (encoded,) = ChatEncoder(tokenizer).encode(chat)
    assert encoded.tokens.tolist() == whole
    end = tokenizer.convert_tokens_to_ids(END[family])
    last = len(prompt) + encoded.tokens[len(prompt) :].tolist().index(end)
    expected = [len(prompt) <= i <= last for i in range(len(encoded.tokens))]
    assert encoded.mask.tolist() == expected


def test_the_text_begins_once(tokenizers, family):
    """With the token that the template or the tokenizer puts there, never with two."""
    tokenizer = tokenizers[family]
    begin = tokenizer.bos_token_id
    documents = DocumentEncoder(tokenizer, 256, loss="all", long="truncate")
    sources = [Document("a", messages=CHAT), Document("b", text="hello there")]
    if tokenizer.bos_token:
        sources.append(Document("c", text=tokenizer.bos_token + "hello there"))
    pieces = [documents.pieces(source)[0].inputs.tolist() for source in sources]
    first = FAMILIES[family].first
    for piece in pieces:
        assert piece.count(begin) <= 1 or tokenizer.bos_token == tokenizer.eos_token
        assert piece[:2] != [begin, begin]
    if first is not None:
        assert [piece[0] for piece in pieces] == [begin] * 3
        assert pieces[1] == pieces[2]


def test_a_reply_that_begins_with_space_is_learned_without_its_header(tokenizers, family):
    """Phi's header tokens take the white space behind them, even the reply's own."""
    tokenizer = tokenizers[family]
    chat = [CHAT[0], {"role": "assistant", "content": "  hello"}]
    (encoded,) = ChatEncoder(tokenizer).encode(chat)
    learned = encoded.tokens[encoded.mask].tolist()
    special = set(tokenizer.all_special_ids) | {
        index for index, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    assert [token for token in learned if token in special] == [
        tokenizer.convert_tokens_to_ids(END[family])
    ]
    assert tokenizer.decode(learned).replace(NO_THOUGHT, "").strip() == "hello" + END[family]


@pytest.mark.parametrize("name", ["llama3.2", "smollm3", "granite3"])
def test_data_does_not_depend_on_the_day(tokenizers, name):
    (encoded,) = ChatEncoder(tokenizers[name]).encode(CHAT)
    shown = tokenizers[name].decode(encoded.tokens[:60])
    assert any(f"Today: {day}" in shown for day in ("26 Jul", "July 26, 2024"))


def test_thoughts_are_learned_where_they_were_written(tokenizers):
    """Qwen3 shows a turn's thoughts until the user speaks again."""
    tokenizer = tokenizers["qwen3"]
    thoughtful = f"<think>\nhm, let me see\n</think>\n\n{REPLIES[0]}"
    chat = [CHAT[0], {"role": "assistant", "content": thoughtful}, *CHAT[2:]]
    later, earlier = ChatEncoder(tokenizer).encode(chat)
    assert runs(earlier, tokenizer) == [thoughtful + "<|im_end|>"]
    assert runs(later, tokenizer) == [NO_THOUGHT + REPLIES[1] + "<|im_end|>"]
    assert "hm, let me see" not in tokenizer.decode(later.tokens)
    assert later.tokens.tolist() == turn_by_turn(tokenizer, chat)[1]


def test_a_generation_prompt_inside_a_marker_is_not_learned(tokenizers):
    """SmolLM3 marks its header, and what it writes for a model that is told not to think."""
    tokenizer = tokenizers["smollm3"]
    quiet = {"role": "system", "content": "Answer. /no_think"}
    (encoded,) = ChatEncoder(tokenizer).encode([quiet, *CHAT])
    assert runs(encoded, tokenizer) == [reply + "<|im_end|>" for reply in REPLIES]


def test_a_closing_token_that_alone_ends_the_reply_is_learned(tokenizers):
    template = (
        "{% for m in messages %}{{ m.role + ':\n' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% else %}{{ eos_token }}{% endif %}"
    )
    tokenizer = tokenizers["qwen2.5"]
    own = tokenizer.chat_template
    try:
        tokenizer.chat_template = template
        (encoded,) = ChatEncoder(tokenizer).encode(CHAT[:2])
        assert runs(encoded, tokenizer) == [REPLIES[0] + "\n<|im_end|>"]
    finally:
        tokenizer.chat_template = own


def test_a_completion_follows_its_prompt_without_a_space(tokenizers, family):
    tokenizer = tokenizers[family]
    documents = DocumentEncoder(tokenizer, 64, loss="assistant", long="drop", template=False)
    document = Document("a", prompt="hello the", completion="re, how are you")
    (piece,) = documents.pieces(document)
    tokens = [*piece.inputs.tolist(), int(piece.labels[-1])]
    shown = tokenizer.decode(tokens, skip_special_tokens=True)
    assert shown.strip() == "hello there, how are you"


def test_an_empty_reply_is_its_end(tokenizers, family):
    tokenizer = tokenizers[family]
    (encoded,) = ChatEncoder(tokenizer).encode([CHAT[0], {"role": "assistant", "content": ""}])
    (run,) = runs(encoded, tokenizer)
    assert run.removeprefix(NO_THOUGHT) == END[family]


def test_gemma_refuses_what_its_template_does(tokenizers):
    chat = [CHAT[0], CHAT[2], CHAT[3]]
    with pytest.raises(Exception, match="user and model take turns"):
        ChatEncoder(tokenizers["gemma3"]).encode(chat)


def test_a_tokenizer_is_loaded_as_its_file_has_it(tmp_path):
    """Where `transformers` has a class that would build it anew, as it does for Llama's."""
    from tokenizers import Tokenizer

    from toolkit.data.tokenizers import load_tokenizer

    content = trained("phi3", 700, _LINES)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    config = {"tokenizer_class": "LlamaTokenizer", **FAMILIES["phi3"].roles}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    own, loaded = Tokenizer.from_str(json.dumps(content)), load_tokenizer(str(tmp_path))
    for text in (" hello", "hello  there", " 12 <|end|>  x"):
        assert loaded(text)["input_ids"] == own.encode(text).ids


@pytest.mark.parametrize("text", ["fine\n\nand you", "4", " hello to", "東京 🙂", "e"])
def test_a_reply_behind_a_prompt_has_the_tokens_that_are_learned(tokenizers, family, text):
    """From its text on: what the template puts before every reply is a part of the prompt."""
    tokenizer = tokenizers[family]
    encoder = ChatEncoder(tokenizer)
    chat = [{"role": "user", "content": "hello there"}]
    tokens, first = encoder.reply(chat, text)
    learned = encoder.encode([*chat, {"role": "assistant", "content": text}])[0]
    assert tokens == learned.tokens[: len(tokens)].tolist()
    assert learned.mask[first : len(tokens)].all()
    prompt = encoder.prompt(chat)
    assert tokens[: len(prompt)] == prompt and first >= len(prompt)
    assert tokenizer.decode(tokens[first:]).strip() == text.strip()
    header = tokenizer.decode(tokens[len(prompt) : first])
    assert header.strip() == (NO_THOUGHT.strip() if family == "qwen3" else "")
