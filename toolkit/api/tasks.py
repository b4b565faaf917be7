"""A model judged by tasks of a user's own, with and without an adapter."""

from dataclasses import asdict, dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from toolkit.api.devices import Bars, Device, no_bars
from toolkit.api.generating import open_talker
from toolkit.api.judging import Counting, count_nothing
from toolkit.api.talking import Talker
from toolkit.bundle.bundle import Bundle
from toolkit.choices import ARITHMETICS
from toolkit.device.generating import NO_ADAPTER
from toolkit.errors import ToolkitError
from toolkit.exchange.base import check_bundle
from toolkit.generation.prompts import Prompts
from toolkit.generation.tasks import Task, read_tasks, refuse_lines
from toolkit.settings.generation import ReplySettings

_Asked = list[tuple[list[int], int]]
"""Tokens of a task with each choice, and how many are the prompt's; else of the prompt alone."""


@dataclass(frozen=True)
class TaskOutcome:
    """What a model did with a task.

    Attributes:
        line: In the file, from 1 on.
        id: That the file gives it, or None.
        correct: Of choices: whether the right one has the highest log probability; of a reply:
            whether it is right to the letter, white space around it aside.
        correct_normalized: Of choices: the same with log probabilities divided by the bytes of each
            choice, so that long ones are not at a disadvantage; of a reply: the same but for case,
            and punctuation around it.
        log_probabilities: Of the choices, in nats; None for a reply.
        reply: What the model wrote; None for choices.
        reason: Why it ended there: "stop", or cut: "length" or "context"; None for choices.
    """

    line: int
    id: str | int | None
    correct: bool
    correct_normalized: bool
    log_probabilities: list[float] | None = None
    reply: str | None = None
    reason: str | None = None

    @property
    def is_cut(self) -> bool:
        """Whether the model would have written more: what is compared is a beginning."""
        return self.reason in ("length", "context")


@dataclass(frozen=True)
class Tally:
    """How many tasks of a kind there are, and how many were done right; see TaskOutcome."""

    tasks: int
    correct: int
    correct_normalized: int


@dataclass(frozen=True)
class TaskScores:
    """What a model did with all tasks, in the order of the file."""

    outcomes: list[TaskOutcome]

    @property
    def choices(self) -> Tally:
        """Of tasks with choices."""
        return _tally([one for one in self.outcomes if one.reply is None])

    @property
    def replies(self) -> Tally:
        """Of tasks with a reply."""
        return _tally([one for one in self.outcomes if one.reply is not None])

    @property
    def cut(self) -> int:
        """How many replies were cut."""
        return sum(one.is_cut for one in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """Return counts and outcomes as JSON values."""
        counts = {"choices": asdict(self.choices), "replies": asdict(self.replies)}
        return {**counts, "cut": self.cut, "outcomes": [asdict(one) for one in self.outcomes]}


@dataclass(frozen=True)
class TasksReport:
    """How a model does tasks.

    Attributes:
        tasks: The file.
        adapter: The adapter's folder, if there is one.
        max_tokens: A reply was cut there.
        template: Whose chat template all prompts were put into, without the adapter too: that of
            the "adapter", if it has one of its own, or of the "bundle"; None: plain texts.
        without_adapter, with_adapter: What was done.
    """

    tasks: str
    adapter: str | None
    max_tokens: int
    template: str | None
    without_adapter: TaskScores
    with_adapter: TaskScores | None = None

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; without an adapter there is nothing about one."""
        names = ("tasks", "adapter", "max_tokens", "template")
        found = {name: getattr(self, name) for name in names}
        scores = {"without_adapter": self.without_adapter, "with_adapter": self.with_adapter}
        return found | {name: one.to_json() for name, one in scores.items() if one is not None}


def evaluate_tasks(
    bundle: str | PathLike[str],
    tasks: str | PathLike[str],
    *,
    adapter: str | PathLike[str] | None = None,
    device: str | Device = "local",
    plain: bool = False,
    max_tokens: int = 64,
    max_samples: int = 0,
    threads: int = 0,
    arithmetic: str = ARITHMETICS[0],
    bars: Bars = no_bars,
    counting: Counting = count_nothing,
) -> TasksReport:
    """Judge a model on a device by tasks, without an adapter and with it.

    Choices are ranked by their log probability behind the prompt, their end left open; in a chat
    they have the tokens that training would give them. Replies are greedy; a thought before one
    (`<think>`) is not compared.

    Args:
        bundle: What `export` wrote; it is sent if the device lacks it.
        tasks: JSON Lines: {"prompt", "choices", "answer"} or {"prompt", "answer"}; see
            `toolkit.generation.tasks`.
        adapter: Folder of a PEFT adapter, as `pull` brings it.
        device: Where it runs.
        plain: Prompts are texts to go on with, and choices follow them as they are, so they begin
            with their own space (or the prompt ends with it); else prompts are messages of a user
            in a chat.
        max_tokens: Cut a reply there; how many were cut is in the report.
        max_samples: Only so many tasks from the start; 0 is all.
        threads: On the device; 0 leaves it to it.
        arithmetic: Of products with quantized weights: float32 or fixed16.
        bars, counting: Show progress.

    Raises:
        ToolkitError: Lines of the file are no tasks, the template refuses them, or they do not fit
            into the context; or as `open_talker`.

    Warns:
        ToolkitWarning: A prompt leaves less room in the context than `max_tokens`; once.

    Example:
        >>> report = toolkit.evaluate_tasks("bundle", "tasks.jsonl")  # doctest: +SKIP
        >>> report.without_adapter.choices.correct  # doctest: +SKIP
        12
    """
    wanted = read_tasks(Path(tasks))
    wanted = wanted[:max_samples] if max_samples else wanted
    if plain:
        chats = [task.line for task in wanted if not isinstance(task.prompt, str)]
        wrong = [(line, "messages need a chat template") for line in chats]
        refuse_lines(Path(tasks), wrong, "Leave --no-template away, or give a prompt")
    opened = Bundle.open(fspath(bundle))
    settings = ReplySettings(max_tokens=max_tokens, temperature=0)
    folder = None if adapter is None else fspath(adapter)
    options: dict[str, Any] = {"adapter": folder, "compare": folder is not None, "plain": plain}
    scores = {}
    if folder is not None:
        check_bundle(opened, Path(folder))
    prompts = Prompts(opened, None if folder is None else Path(folder), plain)
    asked = _asked(prompts, Path(tasks), wanted)
    options |= {"threads": threads, "arithmetic": arithmetic}
    with open_talker(opened.path, device=device, bars=bars, **options) as talker:
        _check_lengths(asked, talker.context, Path(tasks))
        for name in reversed(talker.adapters):
            what = "without adapter" if name == NO_ADAPTER else "with adapter"
            with counting(what, len(wanted)) as count:
                outcomes = []
                for task in wanted:
                    outcomes.append(_outcome(talker, task, asked[task.line], name, settings))
                    count(len(outcomes), len(wanted))
            scores[what.replace(" ", "_")] = TaskScores(outcomes)
    return TasksReport(fspath(tasks), folder, max_tokens, prompts.template, **scores)


def _asked(prompts: Prompts, path: Path, tasks: list[Task]) -> dict[int, _Asked]:
    """Return the tokens of each task by its line; before anything is sent to a device."""
    found: dict[int, _Asked] = {}
    wrong = []
    for task in tasks:
        try:
            if task.choices:
                found[task.line] = prompts.with_replies(task.prompt, task.choices)
            else:
                tokens = prompts.tokens(task.prompt)
                found[task.line] = [(tokens, len(tokens))]
        except ToolkitError as error:
            wrong.append((task.line, error.cause))
    refuse_lines(path, wrong)
    return found


def _check_lengths(asked: dict[int, _Asked], context: int, path: Path) -> None:
    lengths = {line: max(len(tokens) for tokens, _ in texts) for line, texts in asked.items()}
    wrong = [
        (line, f"{length} tokens do not fit into the model's context of {context}")
        for line, length in lengths.items()
        if length > context
    ]
    refuse_lines(path, wrong, "Shorten these tasks, or leave them out")


def _outcome(
    talker: Talker, task: Task, asked: _Asked, adapter: str, settings: ReplySettings
) -> TaskOutcome:
    if not task.choices:
        reply = talker.reply(task.prompt, settings, adapter=adapter)
        same, similar = task.is_same(reply.text), task.is_similar(reply.text)
        return TaskOutcome(task.line, task.id, same, similar, reply=reply.text, reason=reply.reason)
    found = talker.score_tokens(asked, adapter=adapter)
    right = task.choices.index(task.answers[0])
    each_byte = [
        value / len(choice.encode()) for value, choice in zip(found, task.choices, strict=True)
    ]
    first, second = (values.index(max(values)) == right for values in (found, each_byte))
    return TaskOutcome(task.line, task.id, first, second, log_probabilities=found)


def _tally(outcomes: list[TaskOutcome]) -> Tally:
    right = sum(one.correct for one in outcomes)
    return Tally(len(outcomes), right, sum(one.correct_normalized for one in outcomes))
