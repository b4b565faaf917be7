"""The mask covers what the assistant writes, token by token, whatever the template."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.chatml import SMOLLM2, make_tokenizer
from toolkit.data.chat import ChatEncoder
from toolkit.errors import ToolkitError

CHAT = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": " how are  you? "},
    {"role": "user", "content": "the assistant said hello"},
    {"role": "assistant", "content": "fine\n\nand you"},
]
_CONTENTS = st.text(
    alphabet=st.sampled_from("abc hello\n\t .!é中😀\u0301assistantuser"), max_size=20
)
_CHATS = st.lists(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["user", "assistant", "system"]),
        _CONTENTS,
    ),
    min_size=1,
    max_size=6,
)


def learned(encoded, tokenizer) -> list[str]:
    """Return the text of every run of learned tokens."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], encoded.mask.astype(int), [0]])))
    runs = edges.reshape(-1, 2)
    return [tokenizer.decode(encoded.tokens[begin:end]) for begin, end in runs]


def chatml_mask(text: str, tokenizer) -> tuple[list[int], list[bool]]:
    """Independent oracle: ChatML's grammar on the rendered text, mapped by char_to_token."""
    encoded = tokenizer(text, add_special_tokens=False)
    mask = [False] * len(encoded.input_ids)
    for match in re.finditer(r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", text, re.DOTALL):
        tokens = {encoded.char_to_token(i) for i in range(*match.span(1))}
        for token in tokens - {None}:
            mask[token] = True
    return encoded.input_ids, mask


def test_tokens_are_those_of_the_template_and_runs_are_the_replies(tokenizer):
    (encoded,) = ChatEncoder(tokenizer).encode(CHAT)
    expected = tokenizer.apply_chat_template(CHAT, return_dict=True)["input_ids"]
    assert encoded.tokens.tolist() == expected
    assert learned(encoded, tokenizer) == [
        " how are  you? <|im_end|>",
        "fine\n\nand you<|im_end|>",
    ]


@settings(deadline=None, max_examples=150)
@given(chat=_CHATS)
def test_mask_agrees_with_the_grammar_of_chatml(tokenizer, chat):
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    tokens, mask = chatml_mask(text, tokenizer)
    (encoded,) = ChatEncoder(tokenizer).encode(chat)
    assert encoded.tokens.tolist() == tokens
    # char_to_token finds no token for the characters of some trimmed spaces and composed
    # accents; whatever it finds must agree, and the rest may only add learned tokens.
    assert encoded.mask[np.array(mask)].all()
    prompts = re.sub(r"<\|im_start\|>assistant\n.*?<\|im_end\|>", "", text, flags=re.DOTALL)
    assert (~encoded.mask).sum() <= len(prompts.encode()) + 3 * len(chat)
    replies = [m["content"] for m in chat if m["role"] == "assistant"]
    assert encoded.mask.sum() <= sum(len(reply.encode()) + 2 for reply in replies)


@settings(deadline=None, max_examples=100)
@given(replies=st.lists(st.text(alphabet="abc hello.!é中😀", max_size=12), min_size=1, max_size=4))
def test_mask_agrees_with_tokenizing_turn_by_turn(tokenizer, replies):
    """Where no token straddles a border, ids of prompt and reply apart are ids of the whole."""
    replies = [reply.strip() for reply in replies]
    chat = []
    expected_tokens, expected_mask = [], []
    for reply in replies:
        chat.append({"role": "user", "content": "hello"})
        prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        prompt_tokens = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        reply_tokens = tokenizer(reply + "<|im_end|>", add_special_tokens=False)["input_ids"]
        prompt_mask = expected_mask + [False] * (len(prompt_tokens) - len(expected_tokens))
        expected_tokens = prompt_tokens + reply_tokens
        expected_mask = prompt_mask + [True] * len(reply_tokens)
        chat.append({"role": "assistant", "content": reply})
    (encoded,) = ChatEncoder(tokenizer).encode(chat)
    newline = len(encoded.tokens) - len(expected_tokens)  # the template's "\n" after the last turn
    assert encoded.tokens.tolist()[:-newline] == expected_tokens
    assert encoded.mask.tolist() == expected_mask + [False] * newline


def test_a_token_across_the_border_is_learned(smollm2):
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\n"}]
    (encoded,) = ChatEncoder(smollm2).encode(chat)
    assert len(smollm2("\n\n", add_special_tokens=False).input_ids) == 1, "test needs this merge"
    assert learned(encoded, smollm2) == ["\n\n<|im_end|>"]


def test_marked_template_is_taken_at_its_word():
    marked = SMOLLM2.replace(
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}",
        "{{ '<|im_start|>' + message['role'] + '\n' }}"
        "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}"
        "{{ '<|im_end|>' }}{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}"
        "{% endif %}{{ '\n' }}",
    )
    plain, other = make_tokenizer(SMOLLM2), make_tokenizer(marked)
    assert ChatEncoder(other).marked and not ChatEncoder(plain).marked
    (expected,), (actual,) = ChatEncoder(plain).encode(CHAT), ChatEncoder(other).encode(CHAT)
    assert actual.tokens.tolist() == expected.tokens.tolist()
    assert actual.mask.tolist() == expected.mask.tolist()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param(
            "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
            "{% else %} {{ m.content | trim }}<|im_end|>{% endif %}{% endfor %}",
            [" how are  you?<|im_end|>", " fine\n\nand you<|im_end|>"],
            id="no-header",
        ),
        pytest.param(
            "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}",
            [" how are  you? <|im_end|>", " fine\n\nand you<|im_end|>"],
            id="header-without-generation-prompt",
        ),
        pytest.param(
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}<assistant>{% endif %}",
            [" how are  you? \n", "fine\n\nand you\n"],
            id="no-end-of-turn-token",
        ),
    ],
)
def test_other_templates(template, expected):
    tokenizer = make_tokenizer(template)
    (encoded,) = ChatEncoder(tokenizer).encode(CHAT)
    assert learned(encoded, tokenizer) == expected


def test_assistant_may_speak_first(smollm2):
    chat = [{"role": "assistant", "content": "hello"}, *CHAT[:2]]
    (encoded,) = ChatEncoder(smollm2).encode(chat)
    assert learned(encoded, smollm2) == ["hello<|im_end|>", " how are  you? <|im_end|>"]


def test_replies_that_later_turns_hide_are_learned_in_renderings_of_their_own():
    tokenizer = make_tokenizer(
        "{% for m in messages %}{{ m.role }}:{% if m.role == 'user' or loop.last %}"
        "{{ m.content }}{% endif %}<|im_end|>{% endfor %}"
    )
    encoder = ChatEncoder(tokenizer)
    last, first = encoder.encode(CHAT)
    assert learned(last, tokenizer) == ["fine\n\nand you<|im_end|>"]
    assert learned(first, tokenizer) == [" how are  you? <|im_end|>"]
    (alone,) = encoder.encode(CHAT[:2])
    assert first.tokens.tolist() == alone.tokens.tolist()


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("{% for m in messages %}{{ m.role }}\n{% endfor %}", "does not show the assistant"),
        ("{{ raise_exception('only one turn') }}", "refuses the messages: only one turn"),
    ],
)
def test_templates_that_cannot_be_masked_are_refused(template, cause):
    with pytest.raises(ToolkitError, match=cause):
        ChatEncoder(make_tokenizer(template)).encode(CHAT)


def test_no_template():
    with pytest.raises(ToolkitError, match="no chat template"):
        ChatEncoder(make_tokenizer(None))
