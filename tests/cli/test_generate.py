"""`toolkit generate` and `toolkit chat` on this machine as a device, against `transformers`."""

import io
import json
import os
import pty
import select
import shutil
import signal
import sys
import time
import warnings
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import toolkit as toolkit_package
from tests.cli.talking import CONTEXT, greedy, rendered
from tests.cli.test_data import toolkit
from toolkit.bundle.bundle import Bundle
from toolkit.cli.chat import _Chat
from toolkit.cli.main import app
from toolkit.cli.replies import Interrupt
from toolkit.device.errors import DeviceLost
from toolkit.device.generating import RequestRefused
from toolkit.errors import ToolkitError, ToolkitWarning
from toolkit.settings.generation import ReplySettings

pytestmark = pytest.mark.usefixtures("own_home")
GREEDY = ("--temperature", 0, "--max-tokens", 12)


def test_replies_are_those_of_transformers_with_and_without_adapter(made):
    bundle, adapter, *models = made
    tokenizer = Bundle.open(bundle).tokenizer()
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]
    prompt = rendered(bundle, messages)
    words = ("generate", bundle, "--adapter", adapter, "--prompt", "hello", "--compare")
    said = toolkit(*words, "--system", "Be kind.", *GREEDY, "--json").stdout
    replies = json.loads(said)["replies"]
    assert [reply["adapter"] for reply in replies] == [str(adapter), "none"]
    for reply, model in zip(replies, reversed(models), strict=True):
        assert reply["tokens"] == greedy(model, prompt, {tokenizer.eos_token_id})
        assert reply["text"] == tokenizer.decode(reply["tokens"], skip_special_tokens=True)
        assert reply["prompt_tokens"] == len(prompt)
        assert reply["peak_bytes"] >= reply["anonymous_bytes"] > reply["cache_bytes"] > 0
    assert replies[0]["tokens"] != replies[1]["tokens"]


def test_a_context_that_ends_a_reply_is_told_once_before_it(made):
    bundle, adapter, *_ = made
    words = ("generate", bundle, "--prompt", "hello", "--temperature", 0)
    room = 96 - len(rendered(bundle, [{"role": "user", "content": "hello"}]))
    said = (
        f"a prompt of {96 - room} tokens leaves room for {room} of --max-tokens 90 in the context"
    )
    with pytest.warns(ToolkitWarning) as told:
        toolkit(*words, "--context", 96, "--max-tokens", 90, "--compare", "--adapter", adapter)
    [warning] = [str(one.message) for one in told if one.category is ToolkitWarning]
    assert warning.startswith(f"{said} of 96, where the reply will end. Shorten the prompt")
    assert warning.endswith("or raise --context")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ToolkitWarning)
        for most in (room, 0):
            toolkit(*words, "--context", 96, "--max-tokens", most)


def test_text_is_shown_and_a_text_stops_it(made):
    bundle, *_ = made
    words = ("generate", bundle, "--prompt", "hello there", "--no-template", *GREEDY)
    result = toolkit(*words)
    reply = json.loads(toolkit(*words, "--json").stdout)["replies"][0]
    assert result.stdout == reply["text"] + "\n"
    assert "tokens at" in result.stderr and "of mapped files; ended by " in result.stderr
    assert "next:" not in result.stderr  # a chat may have no template
    result = toolkit("generate", bundle, "--prompt", "hello", "--adapter", "none", *GREEDY)
    assert result.stderr.endswith(f"next: toolkit chat {bundle} --adapter none\n")
    stop = reply["text"][3:5]
    stopped = json.loads(toolkit(*words, "--json", "--stop", stop).stdout)["replies"][0]
    assert stopped["text"] == reply["text"][: reply["text"].find(stop)]
    assert stopped["reason"] == "stop"


def test_fixed16_is_a_little_off_and_kept_to(made):
    bundle, adapter, *_ = made
    scores = []
    for arithmetic in ("float32", "fixed16"):
        with toolkit_package.open_talker(bundle, adapter=adapter, arithmetic=arithmetic) as talker:
            scores.append(talker.score("hello", ["how are you"])[0])
    assert scores[0] != scores[1] and scores[1] == pytest.approx(scores[0], rel=3e-3)
    words = ("generate", bundle, "--prompt", "hello", *GREEDY, "--arithmetic")
    assert toolkit(*words, "fixed16").stderr.endswith(f"{bundle} --arithmetic fixed16\n")
    assert "'int8'" in toolkit(*words, "int8", code=2).stderr


def test_a_chat_goes_on_where_it_was(made):
    bundle, adapter, _, model = made
    words = ["chat", bundle, "--adapter", adapter, "--json", *GREEDY]
    lines = "hello\nhow are you\n/new\nhello\n"
    result = CliRunner().invoke(app, list(map(str, words)), input=lines)
    assert result.exit_code == 0, result.output
    first, second, again = map(json.loads, result.stdout.splitlines())
    assert first["tokens"] == again["tokens"] and again["reused_tokens"] > 0
    # All of the first turn that renders to the same tokens is known.
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": first["text"]}]
    prompt = rendered(bundle, [*chat, {"role": "user", "content": "how are you"}])
    ends = {Bundle.open(bundle).tokenizer().eos_token_id}
    assert second["tokens"] == greedy(model, prompt, ends)
    assert second["prompt_tokens"] == len(prompt)
    assert second["reused_tokens"] >= first["prompt_tokens"]


def test_ctrl_c_ends_the_reply_and_then_the_command():
    interrupt = Interrupt()
    before = signal.getsignal(signal.SIGINT)
    with interrupt.during_reply():
        assert not interrupt()
        signal.raise_signal(signal.SIGINT)
        assert interrupt()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with interrupt.during_reply():
        assert not interrupt()


def test_in_a_chat_ctrl_c_said_again_at_once_does_not_end_it(capfd, monkeypatch):
    interrupt = Interrupt(patience=60)
    with interrupt.during_reply():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert interrupt()
        assert capfd.readouterr().err == "\nthe reply is being ended\n"
        later = time.monotonic() + 61
        monkeypatch.setattr("toolkit.cli.replies.time.monotonic", lambda: later)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_turn_that_is_ended_before_both_have_replied_is_in_neither_chat(made, capsys):
    bundle, adapter, *_ = made
    settings = ReplySettings(temperature=0, max_tokens=12)
    with toolkit_package.open_talker(bundle, adapter=adapter, compare=True) as talker:
        chat = _Chat(talker, settings, None, as_json=False)
        real = talker.reply
        asked = []

        def interrupted(messages, *given, **options):
            asked.append((options["adapter"], messages))
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            return real(messages, *given, **options)

        chat._reply("hello")
        before = {name: [*messages] for name, messages in chat._chats.items()}
        talker.reply = interrupted
        chat._settings = replace(settings, max_tokens=0)  # long enough to be ended
        chat._reply("how are you")
        assert len(asked) == 1 and chat._chats == before
        assert "ended by cancel" in (said := capsys.readouterr().err)
        assert "what you said is in no chat" in said
        talker.reply, chat._settings = real, settings
        chat._reply("how are you")
        assert all(len(messages) == 4 for messages in chat._chats.values())


def test_a_chat_of_two_models_shows_both(made):
    bundle, adapter, *_ = made
    words = ("chat", bundle, "--compare", "--adapter", adapter, *GREEDY)
    result = CliRunner().invoke(app, list(map(str, words)), input="hello\n/old\n/help\n/new\n\n")
    assert result.exit_code == 0, result.output
    assert "without adapter" in result.stdout
    assert result.stderr.count("tokens at") == 2
    assert "/old is no command. /new begins another chat, /quit ends it" in result.stderr
    assert result.stderr.count("/new begins another chat, /quit ends it") == 3
    assert result.stderr.endswith("another chat\n")


def test_ctrl_c_in_a_chat_ends_the_reply_and_between_replies_only_when_said_twice(made):
    """On a terminal of its own, with replies that take seconds."""
    bundle, *_ = made
    command = [sys.executable, "-m", "toolkit.cli.main", "chat", str(bundle)]
    command += ["--max-tokens", "0", "--temperature", "0"]
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, command)
    shown = Shown(terminal)
    shown.until("> ")
    os.write(terminal, b"how are you\r")
    shown.until("how are you\r\n")
    os.read(terminal, 1)  # the reply comes
    os.write(terminal, b"\x03")
    shown.until("ended by cancel")
    shown.until("> ")
    time.sleep(1)  # Python misses a signal that comes before its line editor waits
    os.write(terminal, b"\x03")
    shown.until("Ctrl-C again or /quit ends the chat")
    os.write(terminal, b"/new\r")
    shown.until("/new\r\n")
    shown.until("> ")
    time.sleep(1)  # Python misses a signal that comes before its line editor waits
    os.write(terminal, b"\x03")
    shown.until("Ctrl-C again or /quit ends the chat")
    time.sleep(1)
    os.write(terminal, b"\x03")
    shown.until("error: interrupted")
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130


class Shown:
    """What a terminal shows, up to some text."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._text = ""

    def until(self, text: str, seconds: float = 120) -> None:
        """Read up to a text and drop it and what is before it."""
        end = time.monotonic() + seconds
        while text not in self._text:
            ready, _, _ = select.select([self._terminal], [], [], max(end - time.monotonic(), 0))
            assert ready, f"no {text!r} in {self._text!r}"
            try:
                self._text += os.read(self._terminal, 4096).decode(errors="replace")
            except OSError:  # what showed it has ended
                pytest.fail(f"no {text!r} in {self._text!r}")
        self._text = self._text.partition(text)[2]


def test_a_chat_goes_on_where_the_context_is_full(made):
    """What is said last and the system prompt stay; too long a message was not said."""
    bundle, *_ = made
    words = ["chat", bundle, "--json", "--context", 96, "--system", "Be kind.", *GREEDY]
    lines = "hello\nhow are you\n" + "hello there " * 60 + "\nhello\n"
    result = CliRunner().invoke(app, list(map(str, words)), input=lines)
    assert result.exit_code == 0, result.output
    first, second, refused, last = map(json.loads, result.stdout.splitlines())
    assert "do not fit into the --context of 96" in refused["error"]
    assert "without adapter: the context of 96 tokens is full: left out" in result.stderr
    for reply in (first, second, last):
        assert reply["prompt_tokens"] <= 96 - 12 and len(reply["tokens"]) > 0


def test_a_run_of_another_bundle_is_refused(made, tmp_path):
    bundle, adapter, *_ = made
    for sha256 in ("0" * 64, Bundle.open(bundle).base.sha256().hex()):
        run = shutil.copytree(adapter, tmp_path / f"runs{sha256[0]}" / "run")
        record = {"type": "run", "version": 1, "bundle": {"base_sha256": sha256}}
        (run / "trace.jsonl").write_text(json.dumps(record) + "\n")
        (run.parent / "bundle").symlink_to(bundle)
    words = ("generate", bundle, "--prompt", "a", *GREEDY, "--json", "--adapter")
    error = toolkit(*words, tmp_path / "runs0" / "run", code=1).stderr
    assert "has other weights than the one that" in error
    error = toolkit("generate", tmp_path / "runs0" / "run", "--prompt", "a", code=1).stderr
    assert "bundle has other weights). Name it with --bundle" in error
    found = json.loads(toolkit("generate", run, "--prompt", "a", *GREEDY, "--json").stdout)
    assert found["bundle"] == str(run.parent / "bundle")


def test_a_special_token_stops_a_reply_and_speeds_count_what_was_timed(made):
    bundle, *_ = made
    words = ("generate", bundle, "--prompt", "hello", "--json", *GREEDY)
    [reply] = json.loads(toolkit(*words).stdout)["replies"]
    count = len(reply["tokens"])
    assert reply["timed_tokens"] == count - (reply["reason"] != "stop")
    rate = reply["timed_tokens"] / reply["seconds"]
    assert reply["tokens_per_second"] == pytest.approx(rate, abs=0.01)
    with toolkit_package.open_talker(bundle) as talker:
        start = talker._prompts.tokenizer.convert_tokens_to_ids("<|im_start|>")
        asked = []
        real = talker._generation.reply
        talker._generation.reply = lambda *given: (asked.append(given[2]), real(*given))[1]
        talker.reply("hello", ReplySettings(max_tokens=1, stop=("<|im_start|>",)))
        assert str(start) in asked[0]["stop-tokens"].split(",")
        talker._prompts.stop_tokens = lambda texts: []
        assert talker.reply("hello", ReplySettings(max_tokens=1)).timed_tokens == 0
        assert asked[1]["stop-tokens"] == "none"
        with pytest.raises(ToolkitError, match="there is no adapter x here, only none"):
            talker.reply("hello", adapter="x")


def test_a_reply_that_nobody_reads_to_its_end_is_not_taken_for_the_next(made):
    bundle, *_ = made
    chat = [{"role": "user", "content": "how are you"}]
    with toolkit_package.open_talker(bundle) as talker:
        settings = ReplySettings(temperature=0, max_tokens=12)
        expected = talker.reply(chat, settings).tokens

        def leave(_text):
            raise KeyError("left")

        records, seen = talker._generation._records, []
        talker._generation._records = (seen.append(record) or record for record in records)
        long = ReplySettings(temperature=0, max_tokens=0)
        with pytest.raises(KeyError) as left:  # whose traceback lives on
            talker.reply(chat, long, on_text=leave)
        assert talker.reply(chat, settings).tokens == expected
        with pytest.raises(RequestRefused, match="none of the model's"):
            list(talker._generation.reply([10**6], "none", {"temperature": "0"}))
        with pytest.raises(RequestRefused, match="expected a number"):
            list(talker._generation.reply([1], "none", {"temperature": "hot"}))
        assert talker.reply(chat, settings).tokens == expected
        assert len(seen) < CONTEXT / 2 and left.value.args  # the long one was taken back


def test_a_request_that_arrived_in_part_ends_the_talk(made):
    """Numbers of answers would be others: what follows would wait for ever."""
    bundle, *_ = made
    with toolkit_package.open_talker(bundle) as talker:
        generation = talker._generation
        device, real = generation._device, generation._device.append

        def cut(path, source, length, on_bytes):
            device.append = real
            content = source.read()
            part = content[: content.index(b"reply") + len("reply 1")]
            real(path, io.BytesIO(part), len(part), on_bytes)
            raise DeviceLost(device.spec, "cut")

        device.append = cut
        with pytest.raises(DeviceLost):
            list(generation.reply([1, 2, 3], "none", {"max-tokens": "0"}))
        lines = device.read(f"{generation._folder}/requests").decode().split("\n")
        assert lines[-3:] == ["reply 1", "cancel", ""]
        with pytest.raises(ToolkitError, match=r"whole\. Open another talker"):
            list(generation.reply([1], "none", {}))
        with pytest.raises(ToolkitError, match=r"whole\. Open another talker"):
            generation.score([([1, 2], 1)], "none")


def test_mistakes(made, tmp_path):
    bundle, adapter, *_ = made
    error = toolkit("generate", adapter, "--prompt", "a", code=1).stderr
    assert "does not say which bundle it is for. Name it with --bundle" in error
    error = toolkit("generate", bundle, "--prompt", "", "--no-template", code=1).stderr
    assert "the prompt is empty" in error
    error = toolkit("generate", bundle, "--prompt", "a " * CONTEXT, code=1).stderr
    assert f"tokens do not fit into the model's context of {CONTEXT}. Shorten the text" in error
    error = toolkit("generate", tmp_path / "none", "--prompt", "a", code=1).stderr
    assert "none is not there. Name a folder of `toolkit pull`, or a bundle" in error
    error = toolkit("generate", bundle, "--bundle", bundle, "--prompt", "a", code=1).stderr
    assert "is a bundle itself. Leave --bundle away, or name a run" in error
    error = toolkit("generate", bundle, "--prompt", "a", "--compare", code=1).stderr
    assert "there is no adapter to compare with" in error
    toolkit("generate", bundle, "--prompt", "a", "--top-p", 2, code=1)
    toolkit("generate", bundle, "--prompt", "a", "--system", "b", "--no-template", code=2)
    with pytest.raises(ToolkitError, match="empty text"):
        ReplySettings(stop=("",))
    with pytest.raises(ToolkitError, match="--seed -1 is not between"):
        ReplySettings(seed=-1)
