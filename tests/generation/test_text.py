"""Text that comes token by token: what is shown at any time, and what in the end."""

import random

import pytest

from tests.support.chatml import SMOLLM2, make_tokenizer
from tests.support.family_tokenizers import trained, wrapped
from toolkit.generation.text import Detokenizer, StopText

TEXTS = ["hello there", "naïve 🤖🤖 ok", "日本語\n\n  end", "a\n<|im_end|>b", " "]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(SMOLLM2)


def test_a_text_goes_on_with_its_space_behind_a_prompt():
    """Tokenizers of SentencePiece's kind show no space before the first token of all."""
    lines = ["hello there, how are you doing today?"] * 20
    tokenizer = wrapped("phi3", trained("phi3", 700, lines), None)
    tokens = tokenizer("hello there, how are you")["input_ids"]
    for given in range(1, len(tokens)):
        detokenizer = Detokenizer(tokenizer, tokens[:given][-4:])
        shown = [detokenizer.add(token) for token in tokens[given:]]
        assert tokenizer.decode(tokens[:given]) + "".join(shown) == "hello there, how are you"
    alone = Detokenizer(tokenizer)
    assert "".join(map(alone.add, tokenizer("hello")["input_ids"])) == "hello"


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_whole_characters_and_join_to_the_text(tokenizer, text):
    tokens = tokenizer(text)["input_ids"]
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.add(token) for token in tokens]
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)
    expected = tokenizer.decode(tokens, skip_special_tokens=True)
    assert "".join(pieces) + detokenizer.rest() == expected
    assert len(pieces) < 2 or sum(map(bool, pieces)) > 1


def test_half_a_character_at_the_end_shows_as_one(tokenizer):
    tokens = tokenizer("hi 🤖")["input_ids"]
    detokenizer = Detokenizer(tokenizer)
    shown = "".join(detokenizer.add(token) for token in tokens[:-1])
    assert shown == "hi "
    assert set(detokenizer.rest()) == {"\N{REPLACEMENT CHARACTER}"}


def test_a_text_that_stops_is_found_however_it_comes():
    draw = random.Random(1)
    for _ in range(300):
        text = "".join(draw.choices("ab\n", k=draw.randrange(12)))
        stops = tuple("".join(draw.choices("ab\n", k=draw.randrange(1, 4))) for _ in range(2))
        stop, shown, rest = StopText(stops), "", text
        while rest:
            size = draw.randrange(1, 4)
            shown += stop.add(rest[:size])
            if stop.stopped:
                break
            rest = rest[size:]
        seen = text[: len(text) - max(len(rest) - size, 0)] if stop.stopped else text
        found = [seen.find(s) for s in stops if s in seen]
        assert stop.stopped == bool(found)
        assert shown + stop.rest() == (text[: min(found)] if found else text)
