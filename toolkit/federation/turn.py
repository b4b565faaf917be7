"""A node's part in one round, over a connection that may be lost at any point.

Everything here can be gone through again (toolkit.federation.marks): what was done is found done.
"""

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from toolkit.device import Device, training
from toolkit.device.adapters import send_adapter
from toolkit.device.commands import fetch_file, run_trainer
from toolkit.device.errors import DeviceLost
from toolkit.device.kept import ADAPTER, CONFIG
from toolkit.device.layout import Deployed
from toolkit.device.runs import Run, follow
from toolkit.device.runtime import find_runtime
from toolkit.device.saved_state import read_saved_state
from toolkit.device.session import Session
from toolkit.device.watching import number, whole
from toolkit.errors import ToolkitError
from toolkit.federation.cooling import Cooling
from toolkit.federation.marks import Mark, past_of, remove_sent, write_mark
from toolkit.federation.orders import Lacking, NodeFailed, NodeReport, Order
from toolkit.federation.remaking import remake, scalars_of
from toolkit.federation.settings import FederationSettings
from toolkit.federation.trainers import end_trainer, last_words, runs_of_rounds, stopped_before

Records = dict[int, dict[str, Any]]


class Turn:
    """What a round asks of a node, on its device."""

    def __init__(
        self,
        device: Device,
        federation: FederationSettings,
        run: str,
        order: Order,
        deadline: float,
        glance: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        """Be ready.

        Args:
            device: Connected.
            run: Name of the node's run, or what the names of its rounds' runs begin with.
            deadline: By `time.monotonic`; what is not done then is late.
            glance: Raises if the federation ends.
        """
        name = run if federation.state == "keep" else f"{run}-{order.round}"
        self._run = Run(device, name)
        self._device = device
        self._federation = federation
        self._base = run
        self._order = order
        self._deadline = deadline
        self._glance = glance
        self._say = say
        self._adapter: Path | None = None  # on the device; None: the bundle's own
        self._node = ""

    @cached_property
    def _past(self) -> Mark | None:
        """What the device remembers."""
        return past_of(self._device, self._base, self._order.round)

    def take(self, bundle: Deployed, data: Deployed, report: NodeReport, cooling: Cooling) -> None:
        """Evaluate, train and bring the adapter back, as far as that was not done before.

        Raises:
            NodeFailed: The trainer failed, was killed or is late, or the phone is too hot.
            DeviceLost: The connection broke.
            Cancelled: The federation ends.
        """
        order = self._order
        last = self._past
        adapter, sent = self._bring(bundle)
        own = f"{bundle.path}/adapter.ptd"
        self._adapter = None if adapter == own else Path(adapter)
        self._node = report.node
        cooling.over(self._device)
        if report.held_out_loss is None and report.held_out_error is None:
            self._rest(cooling)
            self._evaluate(bundle, data, adapter, report, cooling)
        if order.steps == 0:  # what is measured waits for no phone to cool
            for path in {sent, last.sent if last else ""}:
                remove_sent(self._device, path)
            return
        self._rest(cooling)
        mark = self._mark(sent)
        until = mark.begin + order.steps
        steps = self._train(mark, until, bundle, data, cooling)
        self._judge(mark, until, steps)
        self._collect(mark, report, steps)

    def _bring(self, bundle: Deployed) -> tuple[str, str]:
        """Have the round's adapter on the device; return its path, twice if it is there for this
        round alone.
        """
        order, device = self._order, self._device
        made = remake(device, bundle, self._base, order, self._left(), self._say)
        if made is not None:
            return made, made
        if order.adapter is None and order.replayed is not None:
            raise Lacking("it lacks what the round's adapter is made from")
        if order.adapter is None:
            return f"{bundle.path}/adapter.ptd", ""
        known = {entry.path for entry in device.list(f"{device.root}/adapters")}
        adapter = send_adapter(device, order.adapter, bundle, self._say)
        return adapter, "" if adapter in known else adapter

    def _left(self) -> float:
        return max(self._deadline - time.monotonic(), 0.0)

    def _rest(self, cooling: Cooling) -> None:
        """If the phone is too hot, end what trains on it, as it went on without a connection, and
        wait. A round that is trained waits for nothing: it can be collected.
        """
        if not cooling.hot():
            return
        device, order, base = self._device, self._order, self._base
        drop = self._federation.state == "drop"
        for run in runs_of_rounds(device, base, order.round) if drop else [self._run]:
            end_trainer(run)
        mark, saved = self._past, read_saved_state(device, self._run.name)
        done = 0
        if mark is not None and saved is not None and mark.is_of(order.round, order.sha256):
            done = saved.step - mark.begin
        if not 0 < order.steps <= done:
            said = f"{done} of {order.steps} steps in time" if done > 0 else "it did not begin"
            cooling.wait(said)

    def _evaluate(
        self,
        bundle: Deployed,
        data: Deployed,
        adapter: str,
        report: NodeReport,
        cooling: Cooling,
    ) -> None:
        """Measure what is held out; what cannot be measured may still be trained."""
        held_out, federation = f"{data.path}/validation.ptd", self._federation
        if federation.evaluate == "off" or self._device.stat(held_out) is None:
            return
        if cooling.why is not None:  # and what was trained is collected all the same
            report.held_out_error = f"hot: {cooling.why}"
            return
        arguments = ["--bundle", bundle.path, "--data", held_out, "--adapter", adapter]
        arguments += ["--max-samples", str(federation.max_samples)]
        arguments += ["--threads", str(federation.train.threads)]
        arguments += ["--arithmetic", federation.train.arithmetic]
        result: Mapping[str, Any] = {}
        runtime = find_runtime(self._device)
        try:
            records = run_trainer(
                self._device, runtime, "evaluate", *arguments, seconds=self._left()
            )
            for record in records:
                result = record
                self._glance()
                if time.monotonic() > self._deadline:
                    raise cooling.late("it was still measuring")
        except NodeFailed:
            raise
        except ToolkitError as error:
            if time.monotonic() >= self._deadline:
                raise cooling.late("it was still measuring") from error
            if isinstance(error, DeviceLost):
                raise
            report.held_out_error = error.cause[:500]
            return
        report.held_out_loss = number(result.get("loss"))
        report.held_out_tokens = whole(result.get("tokens")) or 0

    def _mark(self, sent: str) -> Mark:
        """Return what is remembered of this round; a node that is in another one ends it first."""
        order, run, device = self._order, self._run, self._device
        mark = self._past
        if mark is not None and mark.is_of(order.round, order.sha256):
            return mark
        if self._federation.state == "drop":
            for earlier in runs_of_rounds(device, self._base, order.round - 1):
                end_trainer(earlier)
                device.remove(earlier.path)
        end_trainer(run)
        saved = read_saved_state(device, run.name)
        if run.exists() and (saved is None or saved.step == 0):
            device.remove(run.path)  # it ended before its first step: what it began with is old
            saved = None
        trace, log = (
            0 if entry is None else entry.size
            for entry in (device.stat(f"{run.path}/{n}") for n in ("trace.jsonl", "trainer.log"))
        )
        begin = saved.step if saved else 0
        new = Mark(order.round, order.sha256, begin, trace, log, sent)
        write_mark(device, self._base, new)
        self._past = new
        if mark is not None and mark.sent and mark.adapter != order.sha256:
            remove_sent(device, mark.sent)
        return new

    def _launch(self, mark: Mark, until: int, bundle: Deployed, data: Deployed) -> None:
        """Start the trainer for what is left of the round, if anything is."""
        order, run, device = self._order, self._run, self._device
        saved = read_saved_state(device, run.name)
        settings = self._federation.run_settings(order.round, self._node)
        where = {"bundle": bundle.name, "data": data.name}
        if saved is None and mark.begin > 0:
            raise NodeFailed(f"its run {run.name} was removed from the device in the round")
        if saved is None:
            if run.exists():
                device.remove(run.path)
            options: Any = {**where, "adapter": self._adapter, "until": until}
            training.begin(device, run.name, settings, **options, say=self._say)
        elif saved.step < until:
            session = Session(until)
            if mark.begin > 0:  # before its first step a run has the adapter that it began with
                session = Session(until, self._adapter, mark.begin)
            options = {**where, "session": session}
            training.resume(device, run.name, settings.flags(), **options, say=self._say)

    def _train(
        self, mark: Mark, until: int, bundle: Deployed, data: Deployed, cooling: Cooling
    ) -> Records:
        """Return the records of the round's steps by number, once its trainer has ended; while the
        phone is too hot there is none.
        """
        run, order = self._run, self._order
        while True:
            run.rewind(mark.trace_offset, mark.log_offset)
            if not (found := run.alive()):
                self._launch(mark, until, bundle, data)
            steps, hot = self._follow(cooling)
            if len(steps) >= order.steps:
                return steps
            if hot:
                cooling.wait(f"{len(steps)} of {order.steps} steps in time")
            elif not (found and stopped_before(run, until)):  # by whoever was here before the cut
                return steps

    def _follow(self, cooling: Cooling) -> tuple[Records, bool]:
        """Return steps until the trainer ends, and whether it was ended for heat."""
        steps: Records = {}
        hot = False
        for record in follow(self._run):
            self._glance()
            if record is not None and record["type"] == "step":
                steps[whole(record.get("step")) or 0] = record
            if time.monotonic() > self._deadline and self._run.alive():
                done = len(steps)
                end_trainer(self._run)
                raise cooling.late(f"{done} of {self._order.steps} steps in time")
            if not hot and cooling.hot():
                hot = True
                end_trainer(self._run)
        return steps, hot

    def _judge(self, mark: Mark, until: int, steps: Records) -> None:
        """Raise unless the run has come to the end of the round."""
        run = self._run
        saved = read_saved_state(self._device, run.name)
        if saved is not None and saved.step == until:
            if mark.begin > 0 and saved.taken != (mark.begin, self._order.sha256):
                raise NodeFailed("what it trained did not begin with the round's adapter")
            return
        if error := last_words(run).get("error"):
            raise NodeFailed(str(error))
        if stopped_before(run, until):
            raise NodeFailed(f"stopped on the device after step {max(steps, default=0)}")
        raise NodeFailed(run.failure())

    def _collect(self, mark: Mark, report: NodeReport, steps: Records) -> None:
        """Fetch the adapter or the numbers it follows from, and note what the steps say."""
        wanted = range(mark.begin + 1, mark.begin + self._order.steps + 1)
        own = [steps[step] for step in wanted if step in steps]
        if len(own) < len(wanted):
            raise NodeFailed(f"its trace tells of {len(own)} of {len(wanted)} steps")
        labelled = [whole(step.get("labelled")) or 0 for step in own]
        report.first_step, report.last_step = wanted[0], wanted[-1]
        report.labelled = sum(labelled)
        losses = [number(step.get("loss")) * n for step, n in zip(own, labelled, strict=True) if n]
        if not report.labelled:
            raise NodeFailed(
                "it trained on no labelled tokens", "Prepare its data with text to learn"
            )
        report.loss = sum(losses) / report.labelled
        report.train_seconds = sum(number(step.get("seconds"), 0.0) for step in own)
        report.peak_bytes = max(int(number(step.get("peak"), 0.0)) for step in own) * 1024
        if self._federation.aggregate == "scalars":
            report.scalars, report.directions = scalars_of(self._run, wanted)
            return
        folder = self._order.replies / report.node
        folder.mkdir(exist_ok=True)
        for name in (ADAPTER, CONFIG):
            fetch_file(self._device, f"{self._run.path}/{name}", folder / name)
