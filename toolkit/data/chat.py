"""Chats to tokens with an exact mask of what the assistant writes.

The template is rendered as a whole and tokenized once, so the tokens are the ones inference sees.
The assistant's part of turn i is the text between `render(messages[:i], generation prompt)` and
`render(messages[:i + 1])`; a token belongs to it when it carries any character of that text. White
space that the template puts after the end-of-turn token is left out: generation has stopped there.
Templates with a `{% generation %}` marker are taken at their word instead.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from transformers.utils.chat_template_utils import render_jinja_template

from toolkit.data.samples import Encoded
from toolkit.data.template import ChatTemplate
from toolkit.errors import ToolkitError

Messages = list[dict[str, Any]]
_REMEDY = "Give the template a {% generation %} marker, or train on all tokens with --loss all"
# Private-use characters: no tokenizer or template treats them specially.
_PROBES = ("\ue001", "\ue002")


class ChatEncoder:
    """Turns messages into tokens and mask with a Hugging Face tokenizer and a chat template.

    Args:
        tokenizer: The tokenizer, which is left as it is.
        template: The template to take instead of the tokenizer's own.

    Raises:
        ToolkitError: There is no template, it is none, or the tokenizer cannot be used for masks.
    """

    def __init__(self, tokenizer: Any, template: ChatTemplate | None = None) -> None:
        if template is None and not tokenizer.chat_template:
            raise ToolkitError(
                "the tokenizer has no chat template",
                "Give one with --chat-template FILE, or use {text} or {prompt, completion} records "
                "with --no-template",
            )
        if not tokenizer.is_fast:
            raise ToolkitError(
                "the tokenizer reports no character offsets, so masks cannot be exact",
                "Use a tokenizer saved with tokenizer.json",
            )
        self.tokenizer = tokenizer
        self._template = None if template is None else _compiled(template).text
        self.marked = _has_generation_marker(self._template or tokenizer.chat_template)
        self._special = set(tokenizer.all_special_ids) | {
            index for index, token in tokenizer.added_tokens_decoder.items() if token.special
        }

    def length(self, messages: Messages, tools: list[Any] | None = None) -> int:
        """Return the number of tokens of a chat."""
        return len(self._tokenize(self._render(messages, tools))[0])

    def encode_all(self, messages: Messages, tools: list[Any] | None = None) -> Encoded:
        """Return the chat's tokens, all of them to be learned."""
        tokens = self._tokenize(self._render(messages, tools))[0]
        return Encoded(tokens, np.ones(len(tokens), dtype=bool))

    def encode(self, messages: Messages, tools: list[Any] | None = None) -> Encoded:
        """Return the chat's tokens; the mask covers the assistant's tokens and end-of-turn.

        Raises:
            ToolkitError: The template refuses the messages or cannot be masked.
        """
        text = self._render(messages, tools)
        tokens, begins, ends = self._tokenize(text)
        mask = np.zeros(len(tokens), dtype=bool)
        spans = self._marked_spans(messages, tools) if self.marked else None
        for start, end in self._spans(text, messages, tools) if spans is None else spans:
            inside = (begins < end) & (ends > start)
            if spans is None:
                inside = self._without_tail(inside, tokens, text, ends, end)
            mask |= inside
        return Encoded(tokens, mask)

    def _spans(
        self, text: str, messages: Messages, tools: list[Any] | None
    ) -> Iterator[tuple[int, int]]:
        """Yield the characters of every assistant's turn, its header left out."""
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                yield self._span(text, messages, index, tools)

    def _span(
        self, text: str, messages: Messages, index: int, tools: list[Any] | None
    ) -> tuple[int, int]:
        through = self._render(messages[: index + 1], tools)
        if not text.startswith(through):
            raise ToolkitError(
                "the chat template renders earlier turns differently once others follow, "
                "so the assistant's tokens cannot be found",
                _REMEDY,
            )
        start = self._prompt_length(through, messages, index, tools)
        if start is None:
            start = self._content_start(messages, index, tools)
        return start, len(through)

    def _prompt_length(
        self, through: str, messages: Messages, index: int, tools: list[Any] | None
    ) -> int | None:
        """Return the length of the prompt for turn `index`, or None where there is no telling."""
        try:
            plain = self._render(messages[:index], tools)
            prompt = self._render(messages[:index], tools, add_generation_prompt=True)
        except ToolkitError:
            return None  # Some templates refuse an empty chat: the assistant spoke first.
        if not through.startswith(prompt):
            return None
        rest = through[len(prompt) :].lstrip()
        content = messages[index]["content"].strip()
        # A template may write a role header without offering it as generation prompt.
        if prompt == plain and not rest.startswith(content):
            return None
        return len(prompt)

    def _content_start(self, messages: Messages, index: int, tools: list[Any] | None) -> int:
        """Return where the content of turn `index` begins, found by rendering two others."""
        renders = [
            self._render([*messages[:index], {**messages[index], "content": probe}], tools)
            for probe in _PROBES
        ]
        if renders[0] == renders[1]:
            raise ToolkitError("the chat template does not show the assistant's content", _REMEDY)
        same = zip(*renders, strict=False)
        return next(i for i, (first, second) in enumerate(same) if first != second)

    def _without_tail(
        self, inside: np.ndarray, tokens: np.ndarray, text: str, ends: np.ndarray, end: int
    ) -> np.ndarray:
        special = [i for i in np.flatnonzero(inside) if int(tokens[i]) in self._special]
        if not special or text[ends[special[-1]] : end].strip():
            return inside
        inside = inside.copy()
        inside[special[-1] + 1 :] = False
        return inside

    def _marked_spans(self, messages: Messages, tools: list[Any] | None) -> list[tuple[int, int]]:
        """Return the characters inside `{% generation %}` blocks.

        The tokenizer's own `return_assistant_tokens_mask` drops a turn that begins with a space
        whose offset the tokenizer trims, so the characters are mapped to tokens here.
        """
        template = self.tokenizer.get_chat_template(self._template, tools=tools)
        rendered: Any = render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=template,
            return_assistant_tokens_mask=True,
            **self.tokenizer.special_tokens_map,
        )
        spans: list[tuple[int, int]] = rendered[1][0]
        return spans

    def _render(self, messages: Messages, tools: list[Any] | None, **options: Any) -> str:
        try:
            template = self.tokenizer.apply_chat_template
            options |= {"chat_template": self._template, "tokenize": False}
            return str(template(messages, tools=tools, **options))
        except (TemplateError, TypeError, ValueError) as error:
            raise ToolkitError(f"the chat template refuses the messages: {error}") from error

    def _tokenize(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return tokens [n] and the first and past-the-last character of each, int64 [n]."""
        encoded = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        tokens = np.array(encoded["input_ids"], dtype=np.int32)
        offsets = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        # Byte-level tokenizers trim leading spaces from offsets; a token owns the characters
        # since the one before it.
        ends = np.maximum.accumulate(offsets[:, 1]) if len(offsets) else offsets[:, 1]
        begins = np.minimum(offsets[:, 0], np.concatenate([[0], ends[:-1]]))
        return tokens, begins, ends


def _compiled(template: ChatTemplate) -> ChatTemplate:
    """Return a template after a check of its syntax, which needs no chat."""
    try:
        render_jinja_template(conversations=[], chat_template=template.text)
    except TemplateSyntaxError as error:
        raise ToolkitError(
            f"{template.name}:{error.lineno}: not a Jinja template: {error.message}",
            "Correct the file given with --chat-template",
        ) from error
    return template


def _has_generation_marker(template: str | dict[str, str]) -> bool:
    texts = template.values() if isinstance(template, dict) else [template]
    return any("endgeneration" in text for text in texts)
