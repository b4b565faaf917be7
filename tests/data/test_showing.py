"""What is shown of rows is what is in them: every token, its text, and what is learned."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from tests.support.chatml import SMOLLM2, make_tokenizer
from toolkit.data.prepare import prepare_documents, read_input
from toolkit.data.samples import IGNORED
from toolkit.data.settings import Settings
from toolkit.data.showing import show_rows, token_texts

_TEXTS = st.text(
    alphabet=st.sampled_from("abc hello\n\t\ufffdé中😀\u0301\u200d👩<|im_end|>"), max_size=40
)


@pytest.fixture(scope="module")
def sentencepiece() -> PreTrainedTokenizerFast:
    """A tokenizer as of Llama 2: spaces as \u2581, bytes for what it does not know."""
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    vocab = {piece: i for i, piece in enumerate(["<s>", "</s>", *pieces, "\u2581", "a", "\u2581a"])}
    tokenizer = Tokenizer(
        models.BPE(vocab, [("\u2581", "a")], byte_fallback=True, unk_token=None, fuse_unk=False)
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def check(tokenizer, ids: list[int]) -> None:
    """Check that nothing is lost and that what a token says alone it says, too, in its place."""
    texts = token_texts(tokenizer, ids)
    assert len(texts) == len(ids) and "".join(texts) == tokenizer.decode(ids)
    for token, own in zip(ids, texts, strict=True):
        alone = tokenizer.decode([token])
        assert "\ufffd" in alone or own.endswith(alone), (texts, ids)


@settings(deadline=None, max_examples=150)
@given(text=_TEXTS)
def test_the_texts_of_tokens_are_the_text(smollm2, text):
    ids = smollm2(text)["input_ids"]
    assert smollm2.decode(ids) == text
    check(smollm2, ids)


@settings(deadline=None, max_examples=200)
@given(
    names=st.lists(
        st.sampled_from(
            ["a", "a", "\u2581", "\u2581a", "</s>"]
            + [f"<0x{byte:02X}>" for byte in "é中😀\ufffd".encode() + b"\xff"]
        ),
        max_size=24,
    )
)
def test_also_where_spaces_and_bytes_are_tokens_of_their_own(sentencepiece, names):
    """Bytes that are no characters, too: a text may be split within one."""
    check(sentencepiece, sentencepiece.convert_tokens_to_ids(names))


@settings(deadline=None, max_examples=100)
@given(text=_TEXTS, data=st.data())
def test_also_of_a_stretch_that_was_cut_out_of_a_text(smollm2, text, data):
    ids = smollm2(text)["input_ids"]
    begin = data.draw(st.integers(0, len(ids)))
    check(smollm2, ids[begin : data.draw(st.integers(begin, len(ids)))])


def test_a_character_belongs_to_its_last_token(smollm2):
    ids = smollm2("é😀a")["input_ids"]
    texts = token_texts(smollm2, ids)
    assert [text for text in texts if text] == ["é", "😀", "a"]
    cut = token_texts(smollm2, ids[1:-2])  # as splitting a text may leave it
    assert len(cut) == len(ids) - 3 and "".join(cut) == smollm2.decode(ids[1:-2])


@pytest.mark.parametrize("pack", [True, False])
def test_samples_are_the_rows(tmp_path, pack):
    tokenizer = make_tokenizer(SMOLLM2)
    records = [
        {"text": "hello there, how are you doing today? " * 20},
        *({"prompt": f"hello {i}", "completion": f"fine 😀 {i}"} for i in range(6)),
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    own = Settings(96, pack=pack, validation=0)
    prepared = prepare_documents(read_input([path], own), [path], tokenizer, own)
    rows = prepared.rows["train"]
    samples = show_rows(rows, tokenizer, 1000, prepared.sources["train"])
    assert len(samples) == len(rows.tokens)
    sources = set()
    for sample, tokens, labels in zip(samples, rows.tokens, rows.labels, strict=True):
        ids = [token for document in sample.documents for token in document.ids]
        assert ids == tokens[: len(ids)].tolist() and sample.padding == len(tokens) - len(ids)
        marked = [label for document in sample.documents for label in document.labels]
        assert marked == labels[: len(ids)].tolist() and (labels[len(ids) :] == IGNORED).all()
        for document in sample.documents:
            sources.add(document.source)
            found = document.to_json()
            learned = [label for label in found["labels"] if label != IGNORED]
            assert "".join(token.text for token in document.tokens if token.learned) == (
                tokenizer.decode(learned)
            )
            assert "".join(found["texts"]) == tokenizer.decode(found["ids"])
            none = [text is None for text in found["label_texts"]]
            assert none == [label == IGNORED for label in found["labels"]]
            assert [t.special for t in document.tokens][: len(document.ids)] == [
                token in tokenizer.all_special_ids for token in document.ids
            ]
    assert sources == {f"{path}:{line}" for line in range(1, 8)}
    assert (max(len(sample.documents) for sample in samples) > 1) == pack


def test_rows_without_any_source(smollm2):
    """As they come from a file of tokens."""
    from toolkit.data.samples import Piece, to_rows

    piece = Piece(np.array([65, 66], np.int32), np.array([IGNORED, 67], np.int32))
    [sample] = show_rows(to_rows([[piece, piece]], 8, 0), smollm2, 5)
    assert [document.source for document in sample.documents] == ["", ""]
    assert [document.ids for document in sample.documents] == [[65, 66]] * 2
    assert [t.learned for t in sample.documents[0].tokens] == [False, False, True]
    assert sample.padding == 4
