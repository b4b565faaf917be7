"""`toolkit chat`: a conversation with a model on a device."""

import contextlib
import json
import re
import sys
from typing import TYPE_CHECKING, Any

from toolkit.choices import ARITHMETICS
from toolkit.cli import replies
from toolkit.cli.common import say
from toolkit.cli.flags import takes
from toolkit.cli.options import AsJson, InArithmetic, OnDevice
from toolkit.cli.transfers import transfer_bar
from toolkit.settings.declaration import Value
from toolkit.settings.generation import SETTINGS, ReplySettings
from toolkit.trace.units import plural

if TYPE_CHECKING:
    from toolkit.api.talking import Reply, Talker
    from toolkit.data.chat import Messages


_COMMANDS = "/new begins another chat, /quit ends it"
_PATIENCE_SECONDS = 2.0  # with a second Ctrl-C, which is rarely meant for the whole chat
_COMMAND = re.compile(r"/[a-z]*")


@takes(SETTINGS)
def chat(
    flags: dict[str, Value],
    run: replies.RunOrBundle,
    bundle: replies.OfBundle = None,
    adapter: replies.Adapter = None,
    compare: replies.Compare = False,
    device: OnDevice = "local",
    system: replies.System = None,
    stop: replies.Stop = None,
    context: replies.Context = 0,
    threads: replies.Threads = 0,
    arithmetic: InArithmetic = ARITHMETICS[0],
    as_json: AsJson = False,
) -> None:
    """Talk with a model on a device, with its adapter and without.

    A line is what you say. Ctrl-C ends a reply, and asked twice between replies the chat, as /quit
    and the end of the input (Ctrl-D) do; asked again while a reply does not end, it ends the chat
    after 2 seconds. /new begins another chat. Where the context is full the oldest turns are left
    out, and that is said. With --compare there are two chats, one of each model; a turn that Ctrl-C
    ends before both have replied is in neither. --json prints a line for every reply.

    \b
    Examples:
      toolkit chat runs/run1
      toolkit chat runs/run1 --compare --system "Answer in one sentence."
      toolkit chat bundle --adapter runs/run2 --device 192.168.1.7:5555
    """
    settings = ReplySettings.from_flags(flags, stop or [])
    from toolkit.api.generating import open_talker

    with open_talker(
        run,
        bundle=bundle,
        adapter=adapter,
        compare=compare,
        device=device,
        context=context,
        threads=threads,
        arithmetic=arithmetic,
        bars=transfer_bar,
    ) as talker:
        if not as_json:
            say(f"{talker.bundle}, {' and '.join(map(replies.name_of, talker.adapters))}")
            say(_COMMANDS)
        _Chat(talker, settings, system, as_json).run()


def _line(asks: bool) -> str | None:
    """Return the next line, None behind the last.

    With `asks` it is typed: it can be edited and had again, and Ctrl-C has to be said twice.
    """
    if not asks:
        line = sys.stdin.readline()
        return line.strip() if line else None
    with contextlib.suppress(ImportError):  # there is none on Windows
        import readline  # noqa: F401
    asked = False
    while True:
        try:
            return input("> ").strip()
        except EOFError:
            say("")
            return None
        except KeyboardInterrupt:
            if asked:
                raise
            asked = True
            say("\nCtrl-C again or /quit ends the chat")


class _Chat:
    def __init__(
        self, talker: "Talker", settings: "ReplySettings", system: str | None, as_json: bool
    ) -> None:
        self._talker = talker
        self._settings = settings
        self._system = system
        self._as_json = as_json
        self._interrupt = replies.Interrupt(_PATIENCE_SECONDS)
        self._chats = self._new_chats()

    def run(self) -> None:
        asks = sys.stdin.isatty() and not self._as_json
        while (line := _line(asks)) is not None:
            if line == "/quit":
                return
            if line == "/new":
                self._chats = self._new_chats()
                say("another chat")
            elif line == "/help":
                say(_COMMANDS)
            elif _COMMAND.fullmatch(line):
                say(f"{line} is no command. {_COMMANDS}")
            elif line:
                self._reply(line)

    def _reply(self, line: str) -> None:
        """Show what is replied with every adapter; what cannot be replied to was not said."""
        from toolkit.device.generating import RequestRefused

        before = {name: [*messages] for name, messages in self._chats.items()}
        try:
            self._show(self._answers(line))
        except RequestRefused as error:
            self._chats = before
            if self._as_json:
                self._print({"error": error.cause, "fix": error.remedy})
            say(f"error: {error}")

    def _answers(self, line: str) -> "list[Reply]":
        """Return the replies with all adapters; Ctrl-C before the last one takes the turn back.

        Else one chat would lack a turn that the other has, and they could not be compared.
        """
        before = {name: [*messages] for name, messages in self._chats.items()}
        found = []
        for adapter in self._talker.adapters:
            found.append(self._answer(adapter, line))
            if self._interrupt.asked and len(found) < len(self._talker.adapters):
                self._chats = before
                say("ended before all had replied: what you said is in no chat")
                break
        return found

    def _new_chats(self) -> "dict[str, Messages]":
        first = [{"role": "system", "content": self._system}] if self._system is not None else []
        return {name: [*first] for name in self._talker.adapters}

    def _answer(self, adapter: str, line: str) -> "Reply":
        said = [*self._chats[adapter], {"role": "user", "content": line}]
        messages = self._talker.fitting(said, self._settings.max_tokens)
        if len(messages) < len(said):
            say(
                f"{replies.name_of(adapter)}: the context of {self._talker.context} tokens is "
                f"full: left out {plural(len(said) - len(messages), 'message')}, the oldest; "
                "/new begins another chat"
            )
        streams = not self._as_json and len(self._talker.adapters) == 1
        with self._interrupt.during_reply():
            reply = self._talker.reply(
                messages,
                self._settings,
                adapter=adapter,
                on_text=replies.show_text if streams else lambda text: None,
                stopped=self._interrupt,
            )
        self._chats[adapter] = [*messages, {"role": "assistant", "content": reply.text}]
        return reply

    def _show(self, found: "list[Reply]") -> None:
        if self._as_json:
            for reply in found:
                self._print(reply.to_json())
            return
        if len(self._talker.adapters) == 1:
            replies.show_text("\n")
        else:
            replies.show_side_by_side(found)
        for reply in found:
            replies.say_speed(reply)

    @staticmethod
    def _print(facts: dict[str, Any]) -> None:
        replies.show_text(json.dumps(facts) + "\n")
