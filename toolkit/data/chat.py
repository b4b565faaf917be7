"""Chats to tokens with an exact mask of what the assistant writes.

The template is rendered as a whole and tokenized once, so the tokens are the ones inference sees.
The assistant's part of turn i is the text between `render(messages[:i], generation prompt)` and
`render(messages[:i + 1])`; a token belongs to it when it carries any character of that text. Left
out is what generation never writes: a special token of the header that takes the white space behind
it, white space after the end-of-turn token, and a token that closes a chat which asks for no reply
(Phi). `{% generation %}` markers are taken at their word but for these and the generation prompt.

A template may render a reply differently once others follow: Qwen3 drops the reasoning of earlier
turns. Such a reply is learned in a rendering of its own that ends with it, as it was written.
"""

from typing import Any

import numpy as np
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from transformers.utils.chat_template_utils import render_jinja_template

from toolkit.data.samples import Encoded
from toolkit.data.template import ChatTemplate, on_one_day
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

    def prompt(self, messages: Messages) -> list[int]:
        """Return the tokens up to where the next reply begins.

        Raises:
            ToolkitError: The template refuses the messages.
        """
        tokens: list[int] = self._tokenize(
            self._render(messages, None, add_generation_prompt=True)
        )[0].tolist()
        return tokens

    def reply(self, messages: Messages, text: str) -> tuple[list[int], int] | None:
        """Return the tokens of a chat with a reply, as it is learned, and the place of its first.

        What the template puts around the text is left out behind it and not counted before it.
        None: the template does not show the text, or hides where a reply is.
        """
        chat = [*messages, {"role": "assistant", "content": text}]
        try:
            rendered = self._render(chat, None)
            mask = self.encode(chat)[0].mask
        except ToolkitError:
            return None
        tokens, special, begins, ends = self._tokenize(rendered)
        learned = np.flatnonzero(mask)
        if not len(learned) or len(mask) != len(tokens):
            return None
        breaks = np.flatnonzero(np.diff(learned) > 1)
        last = learned[breaks[-1] + 1 if len(breaks) else 0 :]
        last = last[~special[last]]
        if not len(last):
            return None
        begin = rendered.rfind(text.strip(), int(begins[last[0]]), int(ends[last[-1]]))
        end = begin + len(text.strip())
        inside = last[(begin >= 0) & (ends[last] > begin) & (begins[last] < end)]
        if not len(inside):
            return None
        return tokens[: inside[-1] + 1].tolist(), int(inside[0])

    def end_of_reply(self) -> int | None:
        """Return the special token that the template puts behind a reply.

        None: it puts none there, or it does not show where a reply is.
        """
        chat = [{"role": role, "content": role} for role in ("user", "assistant")]
        try:
            encoded = self.encode(chat)[0]
        except ToolkitError:
            return None
        last = encoded.tokens[encoded.mask][-1:].tolist()
        return next((token for token in last if token in self._special), None)

    def encode_all(self, messages: Messages, tools: list[Any] | None = None) -> Encoded:
        """Return the chat's tokens, all of them to be learned."""
        tokens = self._tokenize(self._render(messages, tools))[0]
        return Encoded(tokens, np.ones(len(tokens), dtype=bool))

    def encode(self, messages: Messages, tools: list[Any] | None = None) -> list[Encoded]:
        """Return the chat's tokens; the mask covers the assistant's tokens and end-of-turn.

        There are several renderings where earlier turns are rendered differently once others
        follow, the longest first; each reply is learned in one of them.

        Raises:
            ToolkitError: The template refuses the messages or cannot be masked.
        """
        replies = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        # Up to the end of every reply, which several renderings are compared with.
        through = {}
        if not self.marked:
            through = {i: self._render(messages[: i + 1], tools) for i in replies}
        found = []
        while True:
            text = self._render(messages, tools)
            missed: list[int] = []
            if self.marked:
                spans = self._marked_spans(text, messages, tools, replies)
            else:
                spans, missed = self._spans(text, messages, tools, {i: through[i] for i in replies})
            if spans or not replies:
                found.append(self._masked(text, spans))
            if not missed:
                return found
            messages, replies = messages[: missed[-1] + 1], missed

    def _masked(self, text: str, spans: list[tuple[int, int]]) -> Encoded:
        tokens, special, begins, ends = self._tokenize(text)
        mask = np.zeros(len(tokens), dtype=bool)
        for start, end in spans:
            inside = (begins < end) & (ends > start) & ~(special & (begins < start))
            mask |= self._without_tail(inside, special, text, ends, end)
        return Encoded(tokens, mask)

    def _spans(
        self, text: str, messages: Messages, tools: list[Any] | None, replies: dict[int, str]
    ) -> tuple[list[tuple[int, int]], list[int]]:
        """Return the characters of every reply, its header left out, and which are not there.

        `replies` has the chat as it is rendered up to the end of each.
        """
        spans, missed = [], []
        closing = self._closing(text, messages, tools)
        for index, through in replies.items():
            if closing and through.endswith(closing):
                through = self._unclosed(through, closing)
            if not text.startswith(through):
                missed.append(index)
                continue
            start = self._prompt_length(through, messages, index, tools)
            if start is None:
                start = self._content_start(messages, index, tools)
            spans.append((start, len(through)))
        return spans, missed

    def _closing(self, text: str, messages: Messages, tools: list[Any] | None) -> str:
        """Return the token that the template ends a chat with when no reply is asked for, or ""."""
        end = self.tokenizer.eos_token
        if not end or not text.endswith(end):
            return ""
        try:
            prompt = self._render(messages, tools, add_generation_prompt=True)
        except ToolkitError:
            return ""
        return "" if prompt.startswith(text) else str(end)

    def _unclosed(self, text: str, closing: str) -> str:
        """Leave the closing token away, unless it is all that ends the reply."""
        rest = text.removesuffix(closing)
        special = self._tokenize(rest.rstrip())[1]
        return rest if special[-1:].any() else text

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
        self, inside: np.ndarray, special: np.ndarray, text: str, ends: np.ndarray, end: int
    ) -> np.ndarray:
        marks = np.flatnonzero(inside & special)
        if not len(marks) or text[ends[marks[-1]] : end].strip():
            return inside
        inside = inside.copy()
        inside[marks[-1] + 1 :] = False
        return inside

    def _marked_spans(
        self, text: str, messages: Messages, tools: list[Any] | None, replies: list[int]
    ) -> list[tuple[int, int]]:
        """Return the characters inside `{% generation %}` blocks, generation prompts left out.

        The tokenizer's own `return_assistant_tokens_mask` drops a turn that begins with a space
        whose offset the tokenizer trims, so the characters are mapped to tokens here.
        """
        rendered: Any = render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=self._text(tools),
            return_assistant_tokens_mask=True,
            **self.tokenizer.special_tokens_map,
        )
        prompts = [self._prompt_length(text, messages, index, tools) for index in replies]
        return [
            (max([start, *(p for p in prompts if p is not None and start < p <= end)]), end)
            for start, end in rendered[1][0]
        ]

    def _render(self, messages: Messages, tools: list[Any] | None, **options: Any) -> str:
        try:
            template = self.tokenizer.apply_chat_template
            options |= {"chat_template": self._text(tools), "tokenize": False}
            return str(template(messages, tools=tools, **options))
        except (TemplateError, TypeError, ValueError) as error:
            raise ToolkitError(f"the chat template refuses the messages: {error}") from error

    def _text(self, tools: list[Any] | None) -> str:
        return on_one_day(self.tokenizer.get_chat_template(self._template, tools=tools))

    def _tokenize(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return tokens [n], which are special, first and past-the-last character, int64 [n]."""
        encoded = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        tokens = np.array(encoded["input_ids"], dtype=np.int32)
        special = np.isin(tokens, list(self._special))
        offsets = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        # Byte-level tokenizers trim leading spaces from offsets; a token of text owns the
        # characters since the one before it.
        ends = np.maximum.accumulate(offsets[:, 1]) if len(offsets) else offsets[:, 1]
        since = np.minimum(offsets[:, 0], np.concatenate([[0], ends[:-1]]))
        return tokens, special, np.where(special, offsets[:, 0], since), ends


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
