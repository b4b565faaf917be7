"""Documents to pieces: template or plain text, then split, truncate or drop what is too long."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from toolkit.data.chat import ChatEncoder, Messages
from toolkit.data.documents import Document
from toolkit.data.refusals import RowRefused
from toolkit.data.samples import Encoded, Piece, split, to_piece, truncate
from toolkit.data.template import ChatTemplate
from toolkit.data.tokenizers import begin_text, continue_text
from toolkit.errors import ToolkitError


@dataclass
class Tally:
    """What happened to the documents: counts, and reasons for what was dropped.

    `left_out` has a line for each of these, with its place and the reason.
    """

    documents: int = 0
    split: int = 0
    truncated: int = 0
    repaired: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)

    def drop(self, source: str, why: str, count: int = 1) -> None:
        """Count a document, or `count` parts of one, that is left out."""
        self.dropped[why] += count
        self.left_out.append(f"{source}: {why}")


class DocumentEncoder:
    """Turns documents into pieces of at most `seq_len` inputs.

    Args:
        tokenizer: A Hugging Face tokenizer.
        seq_len: Most inputs of a piece.
        loss: "assistant" learns the assistant's tokens (and completions), "all" every token.
        long: What happens to longer documents: "split", "truncate" or "drop".
        template: False joins prompt and completion as they are instead of as a chat.
        chat_template: Takes the place of the tokenizer's own.
    """

    def __init__(
        self,
        tokenizer: Any,
        seq_len: int,
        *,
        loss: str,
        long: str,
        template: bool = True,
        chat_template: ChatTemplate | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.seq_len = seq_len
        self.loss = loss
        self.long = long
        self.template = template and bool(chat_template or tokenizer.chat_template)
        self.tally = Tally()
        self._chat = ChatEncoder(tokenizer, chat_template) if chat_template else None

    def pieces(self, document: Document) -> list[Piece]:
        """Return the document's pieces, none if it was dropped; `tally` counts what was done.

        Raises:
            RowRefused: The document does not fit the template; names its source.
            ToolkitError: It is a chat, and the tokenizer has no template or is not fit for one.
        """
        if document.messages is not None or (self.template and document.prompt is not None):
            self._chat_encoder()
        self.tally.documents += 1
        self.tally.repaired += bool(document.repaired)
        try:
            parts = [to_piece(part, document.source) for part in self._parts(document)]
        except _Dropped as dropped:
            self.tally.drop(document.source, str(dropped))
            return []
        except ToolkitError as error:
            raise RowRefused(f"{document.source}: {error.cause}", error.remedy) from error
        kept = [part for part in parts if len(part.inputs)]
        if not kept:
            self.tally.drop(document.source, _nothing_learned(document))
        elif len(kept) < len(parts):
            few = "part without a token to learn"
            self.tally.drop(document.source, few, len(parts) - len(kept))
        return kept

    def _parts(self, document: Document) -> list[Encoded]:
        if document.messages is not None:
            return self._chat_parts(document.messages, document.tools)
        if document.prompt is None:
            return self._text_parts(document.text or "")
        if self.template:
            turns = [("user", document.prompt), ("assistant", document.completion)]
            return self._chat_parts([{"role": role, "content": text} for role, text in turns], None)
        return [self._fitted(self._joined(document.prompt, document.completion or ""))]

    def _text_parts(self, text: str) -> list[Encoded]:
        if not text.strip():
            raise _Dropped("empty")
        tokens = self._with_end(begin_text(self.tokenizer, text))
        encoded = _all(tokens)
        if len(tokens) <= self.seq_len + 1 or self.long != "split":
            return [self._fitted(encoded)]
        self.tally.split += 1
        return split(encoded, self.seq_len)

    def _joined(self, prompt: str, completion: str) -> Encoded:
        """Tokenize prompt and completion apart, as at inference, where the prompt comes alone."""
        head = begin_text(self.tokenizer, prompt)
        tail = self._with_end(continue_text(self.tokenizer, completion))
        mask = np.ones(len(head) + len(tail), dtype=bool)
        if self.loss == "assistant":
            mask[: len(head)] = False
        return Encoded(np.array(head + tail, dtype=np.int32), mask)

    def _with_end(self, tokens: list[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        return list(tokens) if end is None or tokens[-1:] == [end] else [*tokens, end]

    def _chat_parts(self, messages: Messages, tools: list[Any] | None) -> list[Encoded]:
        if self.loss == "assistant":
            messages = _until_last_reply(messages)
        if not messages:
            raise _Dropped("no assistant message" if self.loss == "assistant" else "empty")
        if self.long != "split":
            return [self._fitted(part) for part in self._encode(messages, tools)]
        whole = self._fitting(messages, tools)
        chats = [whole] if whole is not None else list(self._conversations(messages, tools))
        if len(chats) > 1:
            self.tally.split += 1
        return [self._fitted(part) for chat in chats for part in chat]

    def _fitting(self, messages: Messages, tools: list[Any] | None) -> list[Encoded] | None:
        """Encode a chat, None where one of its renderings does not fit.

        One that ends with an earlier reply may be longer than the whole: it has its reasoning.
        """
        if self._chat_encoder().length(messages, tools) > self.seq_len + 1:
            return None
        parts = self._encode(messages, tools)
        return parts if all(len(part.tokens) <= self.seq_len + 1 for part in parts) else None

    def _conversations(
        self, messages: Messages, tools: list[Any] | None
    ) -> Iterator[list[Encoded]]:
        """Cut a long chat before user turns into chats that fit, each with the system message.

        An exchange that is too long on its own comes out as a chat of its own, to be truncated.
        """
        system, parts = exchanges(messages)
        current: Messages = []
        encoded: list[Encoded] = []
        for exchange in parts:
            longer = self._fitting([*system, *current, *exchange], tools)
            if longer is None and current:
                yield encoded
                current = []
                longer = self._fitting([*system, *exchange], tools)
            current = [*current, *exchange]
            if longer is None:
                longer = self._encode([*system, *current], tools)
            encoded = longer
        yield encoded

    def _encode(self, messages: Messages, tools: list[Any] | None) -> list[Encoded]:
        if self.loss == "all":
            return [self._chat_encoder().encode_all(messages, tools)]
        return self._chat_encoder().encode(messages, tools)

    def _fitted(self, encoded: Encoded) -> Encoded:
        if encoded.mask[self.seq_len + 1 :].any():  # Else nothing that is learned goes missing.
            if self.long == "drop":
                raise _Dropped("longer than the sequence length")
            self.tally.truncated += 1
        return truncate(encoded, self.seq_len)

    def _chat_encoder(self) -> ChatEncoder:
        if self._chat is None:
            self._chat = ChatEncoder(self.tokenizer)
        return self._chat


class _Dropped(Exception):
    """The document is left out; the message is the reason that is counted."""


def _until_last_reply(messages: Messages) -> Messages:
    replies = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    return messages[: replies[-1] + 1] if replies else []


def exchanges(messages: Messages) -> tuple[Messages, list[Messages]]:
    """Return leading system messages and the rest cut before each user turn after a reply."""
    head = 0
    while head < len(messages) and messages[head]["role"] in ("system", "developer"):
        head += 1
    parts: list[Messages] = []
    replied = True
    for message in messages[head:]:
        if replied and (message["role"] == "user" or not parts):
            parts.append([])
            replied = False
        parts[-1].append(message)
        replied = replied or message["role"] == "assistant"
    return messages[:head], parts


def _all(tokens: list[int]) -> Encoded:
    return Encoded(np.array(tokens, dtype=np.int32), np.ones(len(tokens), dtype=bool))


def _nothing_learned(document: Document) -> str:
    if document.text is not None:
        return "fewer than two tokens"
    return "no token to learn within the sequence length"
