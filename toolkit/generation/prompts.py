"""Prompts as training rendered them, and what ends a reply.

A text is what a user says in a chat, or with `plain` what the model goes on with.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.bundle.bundle import Bundle
from toolkit.bundle.manifest import GENERATION_CONFIG
from toolkit.data.chat import ChatEncoder, Messages
from toolkit.data.encode import exchanges
from toolkit.data.template import FILE, read_template
from toolkit.data.tokenizers import begin_text, continue_text, plain_tokens
from toolkit.errors import ToolkitError

_CONTEXT_TOKENS = 4  # of a prompt's end: what decides how a tokenizer writes what follows


class Prompts:
    """Prompts to tokens with a bundle's tokenizer and a chat template.

    Args:
        bundle: The bundle.
        adapter: Folder of an adapter, whose own chat template is taken if it has one.
        plain: Texts are not put into a chat.

    Attributes:
        template: Whose template it is, "adapter" or "bundle"; None with `plain`.

    Raises:
        ToolkitError: The bundle has no tokenizer, or there is no chat template.
    """

    def __init__(self, bundle: Bundle, adapter: Path | None = None, plain: bool = False) -> None:
        self.tokenizer: Any = bundle.tokenizer()
        own = adapter / FILE if adapter is not None else None
        template = read_template(own) if own is not None and own.is_file() else None
        self._encoder: ChatEncoder | None = None
        self.template: str | None = None
        if not plain:
            if template is None and not self.tokenizer.chat_template:
                raise ToolkitError(
                    f"the tokenizer of {bundle.path} has no chat template",
                    "Use --no-template: the model then goes on with the text of the prompt",
                )
            self._encoder = ChatEncoder(self.tokenizer, template)
            self.template = "bundle" if template is None else "adapter"
        self.vocab_size = int(bundle.manifest["shape"]["vocab_size"])
        self._ends = _end_tokens(bundle)

    def tokens(self, prompt: str | Messages) -> list[int]:
        """Return the tokens of a prompt, those of a chat up to where the reply begins.

        Raises:
            ToolkitError: There are none, or the template refuses the messages.
        """
        if self._encoder is not None:
            return self._encoder.prompt(_messages(prompt))
        if not isinstance(prompt, str):
            raise ToolkitError("plain text has no messages", "Leave --no-template away")
        tokens = begin_text(self.tokenizer, prompt)
        if not tokens:
            raise ToolkitError("the prompt is empty", "Give it some text")
        return tokens

    def with_replies(
        self, prompt: str | Messages, texts: Sequence[str]
    ) -> list[tuple[list[int], int]]:
        """Return for each text the tokens of the prompt with it, and the place of the text's first.

        In a chat they are those that training renders, up to the end of the reply, so what a
        template puts before every reply (an empty thought) is there, as a part of the prompt. White
        space at the end of a plain prompt is taken for the beginning of each text, where models
        have it.
        """
        if self._encoder is None and isinstance(prompt, str) and prompt.strip():
            asked = prompt.rstrip()
            texts = [prompt[len(asked) :] + text for text in texts]
            prompt = asked
        tokens = self.tokens(prompt)
        return [
            self._learned(prompt, text, tokens)
            or (tokens + continue_text(self.tokenizer, text), len(tokens))
            for text in texts
        ]

    def _learned(
        self, prompt: str | Messages, text: str, tokens: list[int]
    ) -> tuple[list[int], int] | None:
        """Return what training renders, None where that does not begin with the prompt's tokens."""
        if self._encoder is None:
            return None
        found = self._encoder.reply(_messages(prompt), text)
        if found is None or found[0][: len(tokens)] != tokens or found[1] < len(tokens):
            return None
        return found

    def fitting(self, messages: Messages, limit: int) -> Messages:
        """Leave out the oldest exchanges of a chat until its prompt has at most `limit` tokens.

        System messages and the last exchange stay.
        """
        system, parts = exchanges(messages)
        while len(parts) > 1:
            kept = [*system, *(message for part in parts for message in part)]
            if len(self.tokens(kept)) <= limit:
                break
            parts = parts[1:]
        return [*system, *(message for part in parts for message in part)]

    def decoded_with(self, tokens: list[int]) -> list[int]:
        """Return the prompt's tokens that a reply is decoded behind.

        A plain text goes on with a space where its tokens say so, which some tokenizers only show
        behind others; in a chat a reply is a text of its own.
        """
        return tokens[-_CONTEXT_TOKENS:] if self._encoder is None else []

    def stop_tokens(self, texts: Sequence[str] = ()) -> list[int]:
        """Return the tokens that end a reply.

        Those of the model, what training put behind a reply, and the special tokens among `texts`.
        """
        ends = dict.fromkeys([self.tokenizer.eos_token_id, *self._ends])
        if self._encoder is not None:
            ends[self._encoder.end_of_reply()] = None
        for text in texts:
            ends[self._special(text)] = None
        return [end for end in ends if end is not None and 0 <= end < self.vocab_size]

    def stop_texts(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Return the texts that are no special token: to be looked for in what is written.

        Raises:
            ToolkitError: A text has a special token and others, and special ones are not written.
        """
        found = tuple(text for text in texts if self._special(text) is None)
        for text in found:
            special = self._special_tokens() & set(plain_tokens(self.tokenizer, text))
            if special:
                name = self.tokenizer.convert_ids_to_tokens(min(special))
                raise ToolkitError(
                    f"--stop {text!r} has the special token {name} and other text",
                    f"Give --stop {name!r} alone",
                )
        return found

    def _special(self, text: str) -> int | None:
        tokens = plain_tokens(self.tokenizer, text)
        alone = len(tokens) == 1 and tokens[0] in self._special_tokens()
        return tokens[0] if alone else None

    def _special_tokens(self) -> set[int]:
        added = self.tokenizer.added_tokens_decoder.items()
        named = {index for index, token in added if token.special}
        return named | set(self.tokenizer.all_special_ids)


def _messages(prompt: str | Messages) -> Messages:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _end_tokens(bundle: Bundle) -> list[int]:
    """Return those of config.json and of generation_config.json, of which newer models have more.

    Raises:
        ToolkitError: generation_config.json cannot be read.
    """
    found = [getattr(bundle.config, "eos_token_id", None)]
    path = bundle.path / GENERATION_CONFIG
    if path.is_file():
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")).get("eos_token_id"))
        except (OSError, ValueError, AttributeError) as error:
            raise ToolkitError(
                f"{path} is no JSON object", "Correct it in the model's folder and export it again"
            ) from error
    lists = [ends if isinstance(ends, list) else [ends] for ends in found]
    return [end for ends in lists for end in ends if isinstance(end, int)]
