"""Talking with a model on a device: one reply after the other."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from toolkit.data.chat import Messages
from toolkit.device.generating import NO_ADAPTER, Generation
from toolkit.errors import ToolkitError, ToolkitWarning
from toolkit.generation.prompts import Prompts
from toolkit.generation.text import Detokenizer, StopText
from toolkit.settings.generation import ReplySettings

OnText = Callable[[str], None]


@dataclass(frozen=True)
class Reply:
    """What a model wrote.

    Attributes:
        adapter: Its folder, or "none".
        text: Without what ended it.
        tokens: All that were chosen, a text that stops included.
        reason: "stop" (a token or a text), "length", "context" or "cancel".
        prompt_tokens: Tokens of the prompt.
        reused_tokens: Those of them that were known from before.
        computed_tokens: Those that were computed in `prompt_seconds`: all the others, or fewer
            where the reply was ended before its first token.
        prompt_seconds: Up to the first token, or the end before it.
        seconds: From there on.
        timed_tokens: How many were chosen in `seconds`, one that ended the reply among them.
        cache_bytes: Keys and values on the device.
        anonymous_bytes: Memory of the trainer's own, the cache among it.
        file_bytes: Its pages of files, the weights among them.
        peak_bytes: The most of both.
    """

    adapter: str
    text: str
    tokens: list[int]
    reason: str
    prompt_tokens: int
    reused_tokens: int
    computed_tokens: int
    prompt_seconds: float
    seconds: float
    timed_tokens: int
    cache_bytes: int
    anonymous_bytes: int
    file_bytes: int
    peak_bytes: int

    @property
    def prompt_tokens_per_second(self) -> float:
        """Of those that were computed."""
        return self.computed_tokens / max(self.prompt_seconds, 1e-9)

    @property
    def tokens_per_second(self) -> float:
        """Of those behind the first, whose time is the prompt's."""
        return self.timed_tokens / max(self.seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values, speeds included."""
        speeds = ("prompt_tokens_per_second", "tokens_per_second")
        return asdict(self) | {name: round(getattr(self, name), 2) for name in speeds}


class Talker:
    """A model on a device that replies; made by `open_talker`.

    Attributes:
        bundle: Folder of the bundle.
        adapters: Folders of the adapters, "none" for no adapter, the first being the usual one.
        context: Tokens of prompt and reply together, at most.
        template: Whose chat template prompts are put into, with every adapter and without: that of
            the first "adapter", or of the "bundle"; None where texts are plain.
    """

    def __init__(
        self,
        bundle: Path,
        adapters: list[str],
        prompts: Prompts,
        generation: Generation,
        *,
        limited: bool = False,
    ) -> None:
        """Be made by `open_talker`; `limited`: the context is less than the model's."""
        self.bundle = bundle
        self.adapters = adapters
        self.context = generation.context
        self.template = prompts.template
        self._limited = limited
        self._warned = False
        self._prompts = prompts
        self._generation = generation

    def reply(
        self,
        prompt: str | Messages,
        settings: ReplySettings | None = None,
        *,
        adapter: str | None = None,
        on_text: OnText = lambda text: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Reply:
        """Return the reply to a prompt.

        Args:
            prompt: Messages ({"role", "content"} each) of a chat; or a text, which is a user's
                message, or what to go on with where the talker was opened with `plain`.
            settings: How it is chosen and when it ends.
            adapter: One of `adapters`; None: the first.
            on_text: Called with text as it comes, in whole characters.
            stopped: Asked after every token; true ends the reply.

        Raises:
            RequestRefused: The trainer refuses it, for example since the prompt does not fit;
                another reply can be asked for.
            ToolkitError: The template refuses the messages, or the trainer failed.

        Warns:
            ToolkitWarning: The context ends the reply before `settings.max_tokens`; once.
        """
        settings = settings or ReplySettings()
        adapter = adapter or self.adapters[0]
        tokens = self._prompts.tokens(prompt)
        self._warn_of_room(len(tokens), settings.max_tokens)
        behind = self._prompts.decoded_with(tokens)
        detokenizer = Detokenizer(self._prompts.tokenizer, behind)
        stop = StopText(self._prompts.stop_texts(settings.stop))
        ends = self._prompts.stop_tokens(settings.stop)
        options = settings.options() | {"stop-tokens": ",".join(map(str, ends)) or "none"}
        found: list[int] = []
        texts: list[str] = []

        def show(text: str) -> None:
            if text:
                texts.append(text)
                on_text(text)

        record: dict[str, Any] = {}

        def ended() -> bool:
            return stop.stopped or stopped()

        # Closed when `on_text` raises: a traceback would keep the reply going.
        replying = self._generation.reply(tokens, self._name(adapter), options, ended)
        with closing(replying) as records:
            for record in records:
                if record["type"] == "token" and not stop.stopped:
                    found.append(int(record["token"]))
                    show(stop.add(detokenizer.add(found[-1])))
        if not stop.stopped:
            show(stop.add(detokenizer.rest()))
            show(stop.rest())
        reply = _reply(record, adapter, "".join(texts), found)
        return replace(reply, reason="stop") if stop.stopped else reply

    def score(
        self, prompt: str | Messages, texts: Sequence[str], *, adapter: str | None = None
    ) -> list[float]:
        """Return the log probability (nats) of each text behind a prompt, its end left open.

        Args:
            prompt: As `reply` takes it.
            texts: What may follow, as the model would write it.
            adapter: One of `adapters`; None: the first.

        Raises:
            RequestRefused: Prompt and text do not fit into the context.
            ToolkitError: The template refuses the messages, or the trainer failed.
        """
        return self.score_tokens(self._prompts.with_replies(prompt, texts), adapter=adapter)

    def score_tokens(
        self, texts: Sequence[tuple[Sequence[int], int]], *, adapter: str | None = None
    ) -> list[float]:
        """Return the same of texts that are tokens, each with how many of them are the prompt's."""
        name = self._name(adapter or self.adapters[0])
        return [sum(found) for found in self._generation.score(texts, name)]

    def fitting(self, messages: Messages, reply_tokens: int) -> Messages:
        """Leave out the oldest exchanges of a chat until there is room for a reply.

        Args:
            messages: Of the chat, the last one being what is to be replied to. It and system
                messages stay.
            reply_tokens: Room to leave, at most a quarter of the context; 0: that.
        """
        quarter = self.context // 4
        room = min(reply_tokens or quarter, quarter)
        return self._prompts.fitting(messages, self.context - room)

    def _warn_of_room(self, prompt: int, most: int) -> None:
        room = self.context - prompt
        if self._warned or not 0 < room < most:
            return
        self._warned = True
        more = ", or raise --context" if self._limited else ""
        warnings.warn(
            f"a prompt of {prompt} tokens leaves room for {room} of --max-tokens {most} in the "
            f"context of {self.context}, where the reply will end. Shorten the prompt, or lower "
            f"--max-tokens{more}",
            ToolkitWarning,
            stacklevel=3,
        )

    def _name(self, adapter: str) -> str:
        """Return what the device calls an adapter."""
        if adapter not in self.adapters:
            known = " and ".join(self.adapters)
            raise ToolkitError(
                f"there is no adapter {adapter} here, only {known}",
                "Name it where the talker is opened",
            )
        return NO_ADAPTER if adapter == NO_ADAPTER else str(self.adapters.index(adapter))


def _reply(record: dict[str, Any], adapter: str, text: str, tokens: list[int]) -> Reply:
    return Reply(
        adapter=adapter,
        text=text,
        tokens=tokens,
        reason=str(record["reason"]),
        prompt_tokens=int(record["prompt_tokens"]),
        reused_tokens=int(record["reused_tokens"]),
        computed_tokens=int(record["computed_tokens"]),
        prompt_seconds=float(record["prompt_seconds"]),
        seconds=float(record["seconds"]),
        timed_tokens=max(int(record["tokens"]) - (record["reason"] != "stop"), 0),
        cache_bytes=int(record["cache_bytes"]),
        anonymous_bytes=1024 * int(record["anonymous_kib"]),
        file_bytes=1024 * int(record["file_kib"]),
        peak_bytes=1024 * int(record["peak_kib"]),
    )
