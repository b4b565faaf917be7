"""`toolkit generate`: a model's reply to a prompt, on a device."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.choices import ARITHMETICS
from toolkit.cli import replies
from toolkit.cli.common import print_json, say_next
from toolkit.cli.flags import takes
from toolkit.cli.options import AsJson, InArithmetic, OnDevice
from toolkit.cli.transfers import transfer_bar
from toolkit.settings.declaration import Value
from toolkit.settings.generation import SETTINGS, ReplySettings

if TYPE_CHECKING:
    from toolkit.api.talking import Reply, Talker
    from toolkit.data.chat import Messages


@takes(SETTINGS)
def generate(
    flags: dict[str, Value],
    run: replies.RunOrBundle,
    prompt: Annotated[str, typer.Option(help="What the user says; - reads standard input.")],
    bundle: replies.OfBundle = None,
    adapter: replies.Adapter = None,
    compare: replies.Compare = False,
    device: OnDevice = "local",
    system: replies.System = None,
    template: Annotated[
        bool,
        typer.Option(
            "--template/--no-template",
            help="Put the prompt into a chat by the model's template, or go on with its text.",
        ),
    ] = True,
    stop: replies.Stop = None,
    context: replies.Context = 0,
    threads: replies.Threads = 0,
    arithmetic: InArithmetic = ARITHMETICS[0],
    as_json: AsJson = False,
) -> None:
    """Let a model reply on a device, with its adapter and without.

    The text comes as it is made; Ctrl-C ends the reply.

    \b
    Examples:
      toolkit generate runs/run1 --prompt "Where do you live?"
      toolkit generate runs/run1 --prompt "Where do you live?" --compare --seed 3
      toolkit generate bundle --prompt "Once upon a time" --no-template --temperature 0 --json
    """
    if system is not None and not template:
        raise typer.BadParameter("--system needs a chat template")
    settings = ReplySettings.from_flags(flags, stop or [])
    text = sys.stdin.read() if prompt == "-" else prompt
    from toolkit.api.generating import open_talker

    asked: str | Messages = text
    if system is not None:
        said = (("system", system), ("user", text))
        asked = [{"role": role, "content": content} for role, content in said]
    streams = not (as_json or compare)
    with open_talker(
        run,
        bundle=bundle,
        adapter=adapter,
        compare=compare,
        device=device,
        plain=not template,
        context=context,
        threads=threads,
        arithmetic=arithmetic,
        bars=transfer_bar,
    ) as talker:
        found = _replies(talker, asked, settings, streams)
    if as_json:
        print_json({"bundle": str(talker.bundle), "replies": [r.to_json() for r in found]})
        return
    _show(found, streams)
    given = {
        "bundle": bundle,
        "adapter": adapter,
        "device": None if device == "local" else device,
        "arithmetic": None if arithmetic == ARITHMETICS[0] else arithmetic,
    }
    flags_again = [f" --{name} {value}" for name, value in given.items() if value is not None]
    if template:
        say_next(f"toolkit chat {run}{''.join(flags_again)}")


def _replies(
    talker: "Talker", prompt: "str | Messages", settings: ReplySettings, streams: bool
) -> "list[Reply]":
    """Return the replies with all adapters, fewer where Ctrl-C ended one."""
    interrupt = replies.Interrupt()
    found = []
    for adapter in talker.adapters:
        with interrupt.during_reply():
            reply = talker.reply(
                prompt,
                settings,
                adapter=adapter,
                on_text=replies.show_text if streams else lambda text: None,
                stopped=interrupt,
            )
        found.append(reply)
        if interrupt.asked:
            break
    return found


def _show(found: "list[Reply]", streams: bool) -> None:
    if streams:
        replies.show_text("\n")
    else:
        replies.show_side_by_side(found)
    for reply in found:
        replies.say_speed(reply)
