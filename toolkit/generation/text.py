"""Tokens to text while they come: whole characters only, and nothing behind a text that stops."""

from collections.abc import Sequence
from typing import Any

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Turns tokens into the text that each of them adds.

    Joined, the texts are what all tokens decode to. A character of several tokens comes with the
    last of them.

    Args:
        tokenizer: A Hugging Face tokenizer.
        behind: Tokens before the first one, whose text is not returned.
    """

    def __init__(self, tokenizer: Any, behind: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._tokens = list(behind)
        self._begin = 0  # of the tokens that are decoded together
        self._told = len(self._tokens)  # tokens whose text was returned

    def add(self, token: int) -> str:
        """Return what is known of the text now and was not before."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._begin : self._told])
        text = self._decode(self._tokens[self._begin :])
        if text.endswith(_REPLACEMENT):
            return ""
        self._begin, self._told = self._told, len(self._tokens)
        return text[len(before) :]

    def rest(self) -> str:
        """Return what is left at the end, halves of characters as U+FFFD."""
        before = self._decode(self._tokens[self._begin : self._told])
        text = self._decode(self._tokens[self._begin :])
        self._begin = self._told = len(self._tokens)
        return text[len(before) :]

    def _decode(self, tokens: list[int]) -> str:
        text = self._tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)


class StopText:
    """Cuts a text that comes in pieces before the first of some texts.

    Attributes:
        stopped: Whether one of them has come.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def add(self, piece: str) -> str:
        """Return what can be shown: not what may be the beginning of one of the texts."""
        if self.stopped:
            return ""
        text = self._held + piece
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        length = max((self._overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - length :]
        return text[: len(text) - length]

    def rest(self) -> str:
        """Return what was held back, once nothing more comes."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Return how many characters at the end of a text are the beginning of `stop`."""
        lengths = range(min(len(stop) - 1, len(text)), 0, -1)
        return next((n for n in lengths if text.endswith(stop[:n])), 0)
