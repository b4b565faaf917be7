"""A trainer that generates on a device: requests go into a file there, answers come as lines.

The file is read as it grows, so a request is one command beside the one whose output is read, which
every kind of device can do.
"""

import io
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from toolkit.device.commands import run_trainer, scratch_folder, send_file
from toolkit.device.computing import Target
from toolkit.device.transfer import Progress
from toolkit.errors import ToolkitError

NO_ADAPTER = "none"
_LAST = ("reply", "score", "failed")  # ends what a request is answered with


class RequestRefused(ToolkitError):
    """The trainer does not do what it is asked for; it does the next."""


class Generation:
    """Replies of one model with several adapters; what chats have in common is not computed again.

    Attributes:
        context: Tokens of prompt and reply together, at most.
    """

    def __init__(
        self, target: Target, folder: str, records: Iterator[dict[str, Any]], context: int
    ) -> None:
        self._device = target.device
        self._folder = folder
        self._records = records
        self._requests = 0  # that were sent, those to cancel left out
        self._broken = False  # a request may have arrived in part, and numbers be others there
        self.context = context

    def reply(
        self,
        tokens: Sequence[int],
        adapter: str,
        options: Mapping[str, str],
        stopped: Callable[[], bool] = lambda: False,
    ) -> Generator[dict[str, Any]]:
        """Yield the trainer's records of a reply, the report last.

        Args:
            tokens: The whole prompt.
            adapter: Name of one of the adapters, or `NO_ADAPTER`.
            options: Of `trainer generate`.
            stopped: Asked after every record; true ends the reply.

        Raises:
            RequestRefused: The trainer refuses the request.
            ToolkitError: The trainer failed, or this or an earlier request did not reach it whole.
        """
        told = False
        with closing(self._ask([f"reply {_numbers(tokens)}"], adapter, options)) as records:
            for record in records:
                yield record
                if not told and stopped():
                    told = True
                    self._send("cancel")

    def score(self, texts: Sequence[tuple[Sequence[int], int]], adapter: str) -> list[list[float]]:
        """Return the log probabilities (nats) of all tokens of each text but the first that are
        given, all asked for at once.

        Args:
            texts: Tokens, and how many of them are given.
            adapter: As in `reply`.

        Raises:
            RequestRefused: The trainer refuses the request.
            ToolkitError: The trainer failed, or this or an earlier request did not reach it whole.
        """
        requests = [f"score {given} {_numbers(tokens)}" for tokens, given in texts]
        records = self._ask(requests, adapter, {})
        return [[float(value) for value in record["log_probabilities"]] for record in records]

    def _ask(
        self, requests: Sequence[str], adapter: str, options: Mapping[str, str]
    ) -> Generator[dict[str, Any]]:
        """Yield the answers to requests in order. Not read to the end they are taken back."""
        if self._broken:
            raise ToolkitError(
                "an earlier request did not reach the trainer whole", "Open another talker"
            )
        path = adapter if adapter == NO_ADAPTER else f"{self._folder}/{adapter}.ptd"
        lines = [f"set {name} {value}" for name, value in {**options, "adapter": path}.items()]
        first = self._requests + 1
        last = self._requests = self._requests + len(lines) + len(requests)
        ended = False
        try:
            self._send(*lines, *requests)
            for record in self._records:
                number = record.get("request")
                if number is None:
                    raise ToolkitError(
                        "the trainer's answers have no numbers", "Use a runtime of this version"
                    )
                if not first <= number <= last:
                    continue  # of a request before, whose answers were not read to their end
                kind = record.get("type")
                ended = number == last and kind in _LAST
                if kind == "failed":
                    raise _refusal(str(record.get("message")))
                yield record
                if ended:
                    return
            ended = True
            raise ToolkitError("the trainer ended before its answer", "Try again")
        finally:
            if not ended:
                with suppress(ToolkitError):  # What is on its way says more.
                    # Behind half a line it would be a part of that.
                    self._send(*([""] if self._broken else []), "cancel")

    def _send(self, *lines: str) -> None:
        content = "".join(f"{line}\n" for line in lines).encode()
        path = f"{self._folder}/requests"
        try:
            self._device.append(path, io.BytesIO(content), len(content), lambda _: None)
        except BaseException:
            self._broken = True
            raise


@contextmanager
def generating(
    target: Target,
    adapters: Mapping[str, Path],
    context: int = 0,
    progress: Progress = lambda name, done, total: None,
) -> Iterator[Generation]:
    """Start a trainer that generates; yield what asks it.

    Args:
        target: The device, which has trainer and bundle.
        adapters: Name -> adapter .ptd; sent.
        context: Tokens of prompt and reply, at most; 0: as many as the model can.
        progress: Told about the sending.

    Raises:
        ToolkitError: The trainer does not start, for example since the bundle cannot generate.
    """
    with scratch_folder(target.device) as folder:
        for name, path in adapters.items():
            send_file(target.device, path, f"{folder}/{name}.ptd", progress)
        target.device.append(f"{folder}/requests", io.BytesIO(), 0, lambda _: None)
        words = ["--bundle", target.bundle, "--threads", str(target.threads)]
        words += ["--arithmetic", target.arithmetic]
        words += ["--adapter", NO_ADAPTER, "--context", str(context)]
        words += ["--requests", f"{folder}/requests"]
        records = run_trainer(target.device, target.runtime, "generate", *words, scratch=folder)
        try:
            ready = next(records, {})
            if ready.get("type") != "ready":
                raise ToolkitError("the trainer did not start to generate", "Try again")
            yield Generation(target, folder, records, int(ready["context"]))
        finally:
            close: Any = records
            close.close()


def _numbers(tokens: Sequence[int]) -> str:
    return " ".join(map(str, tokens))


def _refusal(message: str) -> RequestRefused:
    cause, _, remedy = message.partition(". ")
    return RequestRefused(cause, remedy)
