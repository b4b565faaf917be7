"""Messages to nodes and their answers, through requests that fail and nodes that go and come.

What a node is asked may be asked again: it finds as done what it did (toolkit.federation.marks). So
an errand is sent once more where its answer may never come:

    a request of ours failed       a SuperLink under load answers some with HTTP 500; the answer it
                                   was giving out, or the message, may be gone then
    the answer is not whole        its node gave up while it was sending
    the app of the node crashed    killed for memory, perhaps
    the node connected anew        its SuperNode was started again and knows nothing of the message
    the node is silent for long    a message counts as taken before it is given out: when the
                                   request for it, or for what it holds, ends with an error or is
                                   cut, nobody has it and nobody tells. An answer that its
                                   SuperNode could not deliver is dropped, too

Who is silent may be busy, so it is asked first whether it is: a SuperNode takes one message at a
time, and a question that nobody takes expires. Of two answers the first counts.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

from toolkit.federation.flower.patience import Patience
from toolkit.federation.flower.records import has_failed, is_free, size_of, within
from toolkit.federation.orders import NodeFailed
from toolkit.federation.said import reason_of

_TRIES = 5
_PAUSE_SECONDS = 1.0
_GLANCE_SECONDS = 5.0  # between looks at who is there
_BACK_SECONDS = 60.0  # in which a node that went away may come back in a round
MARGIN_SECONDS = 60.0  # for the way there and back: a node says itself that it is late
_SLACK_SECONDS = 120.0  # that the SuperLink keeps a message for longer than we wait for its answer
_QUESTION_SECONDS = 60.0  # in which a node that is not busy says so
_PART = 0.05  # of the time that it has taken an answer may lie there
_LIE_SECONDS = 3.0  # at most
_AWAY = 5  # flwr's ErrorCode.NODE_UNAVAILABLE
_UNHEARD = (3, 4, 8)  # MESSAGE_UNAVAILABLE, REPLY_MESSAGE_UNAVAILABLE, CLIENT_APP_CRASHED
_FAILED = (httpx.HTTPError, ObjectPushError)


class Unheard(NodeFailed):
    """A node of which there was no answer."""


@dataclass
class Errand:
    """A message to a node, under way until `end` by `time.monotonic`.

    Attributes:
        back: Seconds in which the node may come back when it goes away.
        id: Of the message; nothing while it has to be sent.
        connected: When the node had connected as it was sent.
        tries: How often it was sent.
        failed: How often it was asked for in vain, by requests that failed.
        after: When it is sent or asked for again.
        away: When the node was found gone; None while it is there.
        trouble: What happened last.
        patience: With those who are asked the same; None: it is not asked again when it is silent.
        question: What a node that is silent is asked first; None: nothing.
        begun, asked: When it was sent first, and when it was sent, or the question was over, last.
        earlier: Messages that it was sent as before, and that may be answered all the same.
        probe: The question, under way.
        sent, received: Bytes of its records to the node, every time, and of the answer.
    """

    content: RecordDict
    kind: str
    node: int
    end: float
    back: float
    patience: Patience | None = None
    question: RecordDict | None = None
    begun: float = field(default_factory=time.monotonic)
    asked: float = 0.0
    earlier: list[str] = field(default_factory=list)
    probe: "Errand | None" = None
    id: str = ""
    connected: str = ""
    tries: int = 0
    failed: int = 0
    after: float = 0.0
    away: float | None = None
    trouble: str = ""
    sent: int = 0
    received: int = 0

    def drop_probe(self) -> None:
        """Forget the question, of which nothing is to be learned any more."""
        if self.probe is not None:
            self.sent += self.probe.sent
            self.received += self.probe.received
            self.probe = None


class Post:
    """Carries errands over a Grid."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._there: dict[int, str] = {}
        self._looked = float("-inf")

    def there(self) -> dict[int, str]:
        """Return who is connected, and since when."""
        self._looked = time.monotonic()
        with suppress(*_FAILED):  # then it is as it was, until the next look
            self._there = {n.node_id: n.last_activated_at for n in self._grid.get_nodes()}
        return dict(self._there)

    def send(
        self,
        content: RecordDict,
        kind: str,
        nodes: Iterable[int],
        seconds: float,
        back: float | None = None,
        patience: Patience | None = None,
        question: RecordDict | None = None,
    ) -> list[Errand]:
        """Send nodes a message, all by one request: what they share is looked at at once.

        Args:
            seconds: That the answer may take.
            back: In which a node that goes away may come back.
            patience: With those who are asked the same; None: who is silent is not asked again.
            question: What a node is asked before the content is sent again.
        """
        end = time.monotonic() + seconds
        back = _BACK_SECONDS if back is None else back
        errands = [Errand(content, kind, node, end, back, patience, question) for node in nodes]
        if patience is not None:
            patience.asked += len(errands)
        self._push(errands)
        return errands

    def _push(self, errands: list[Errand]) -> None:
        now = time.monotonic()
        for errand in errands:
            if self._there and errand.node not in self._there:
                errand.away, errand.trouble = now, "it is not connected"
        errands = [errand for errand in errands if errand.away is None]
        messages = []
        for errand in errands:
            left = max(errand.end - now, 0.0)
            content = within(errand.content, left - MARGIN_SECONDS)
            ttl = left + _SLACK_SECONDS
            messages.append(Message(content, errand.node, errand.kind, ttl=ttl))
            errand.drop_probe()
            errand.tries += 1
            errand.sent += size_of(content)
            errand.id, errand.asked = "", now
            errand.connected = self._there.get(errand.node, "")
        if not messages:
            return
        try:
            ids = list(self._grid.push_messages(messages))
        except _FAILED as error:
            for errand in errands:
                self._again(errand, f"the message could not be sent ({_told(error)})")
            return
        for number, errand in enumerate(errands):
            errand.id = (ids[number] if number < len(ids) else None) or ""
            if not errand.id:  # the SuperLink knows no such node, or has lost it
                errand.away, errand.trouble = now, "the message could not be sent"

    def _again(self, errand: Errand, trouble: str) -> None:
        """Have an errand sent once more, a little later."""
        errand.drop_probe()
        errand.id, errand.away, errand.failed, errand.trouble = "", None, 0, trouble
        errand.after = time.monotonic() + _PAUSE_SECONDS * errand.tries

    def answer(self, errand: Errand) -> Message | NodeFailed | None:
        """Return an errand's answer, None while there is none."""
        now = time.monotonic()
        if now - self._looked > _GLANCE_SECONDS:
            self.there()
        reply = self._step(errand, now)
        if reply is None and now > errand.end:
            reply = Unheard("late: it did not answer" if errand.id else f"lost: {errand.trouble}")
        if reply is not None:
            errand.drop_probe()
            if errand.patience is not None:
                errand.patience.ended(None if isinstance(reply, Unheard) else now - errand.begun)
        return reply

    def _step(self, errand: Errand, now: float) -> Message | NodeFailed | None:
        since = self._there.get(errand.node)
        if errand.away is not None:
            if since is not None and self._looked > errand.away:
                self._again(errand, errand.trouble)
            elif now - errand.away > errand.back:
                return Unheard(f"lost: {errand.trouble}")
            return None
        if errand.id and since is not None and errand.connected not in ("", since):
            self._again(errand, "its SuperNode was started again")
        if errand.id:
            reply = self._pulled(errand) if now >= errand.after else None
            return self._nudged(errand, now) if reply is None and since is not None else reply
        if errand.tries >= _TRIES:
            return Unheard(f"lost: {errand.trouble}")
        if errand.after <= now < errand.end:
            self._push([errand])
        return None

    def _nudged(self, errand: Errand, now: float) -> Message | NodeFailed | None:
        """Ask a node that is silent for long whether it is busy, and if not, send it all again."""
        patience, probe, free = errand.patience, errand.probe, False
        if not errand.id or patience is None or errand.tries >= _TRIES:
            return None
        if probe is not None:
            if (said := self.answer(probe)) is None:
                return None
            errand.drop_probe()
            errand.asked = now
            free = isinstance(said, Message) and is_free(said)
        elif now - errand.asked > patience.seconds(errand.end - errand.begun):
            errand.asked, free = now, errand.question is None
            if errand.question is not None:
                errand.probe = self._question(errand)
        if not free:
            return None
        reply = self._pulled(errand)  # what it gave out before it took the question
        if reply is None and errand.id:
            errand.earlier.append(errand.id)
            errand.trouble = "it did not answer"
            self._push([errand])
        return reply

    def _question(self, errand: Errand) -> Errand:
        """Ask a node whether it is busy; who does not take it in time is."""
        assert errand.question is not None
        end = time.monotonic() + _QUESTION_SECONDS
        asked = Errand(errand.question, MessageType.QUERY, errand.node, end, 0.0)
        self._push([asked])
        return asked

    def _pulled(self, errand: Errand) -> Message | NodeFailed | None:
        now = time.monotonic()
        errand.after = now + min(_PART * (now - errand.begun), _LIE_SECONDS)
        try:
            replies = list(self._grid.pull_messages([errand.id, *errand.earlier]))
        except _FAILED as error:
            trouble = f"its answer could not be fetched ({_told(error)})"
            errand.failed += 1
            if _gave_nothing(error) and errand.failed < _TRIES:
                errand.trouble, errand.after = trouble, time.monotonic() + _PAUSE_SECONDS
            else:
                self._again(errand, trouble)
            return None
        except Exception as error:  # what Flower makes a message of is the node's
            return NodeFailed(senseless(error))
        errand.failed = 0
        for reply in sorted(replies, key=has_failed):
            if not reply.has_error():
                errand.received += size_of(reply.content) if reply.has_content() else 0
                return reply if reply.has_content() else NodeFailed("its answer is empty")
            reason, of = reason_of(reply.error.reason or "it gave no reason"), reply.metadata
            if of.reply_to_message_id in errand.earlier and reply.error.code in (_AWAY, *_UNHEARD):
                errand.earlier.remove(of.reply_to_message_id)
            elif reply.error.code == _AWAY:
                errand.id, errand.away, errand.trouble = "", time.monotonic(), reason
            elif reply.error.code in _UNHEARD:
                self._again(errand, reason)
            else:
                return NodeFailed(reason)
        return None


def senseless(error: Exception) -> str:
    """Return why an answer fails its node, by what reading it came to."""
    return f"its answer makes no sense ({type(error).__name__}: {_told(error)})"


def _gave_nothing(error: Exception) -> bool:
    """Whether it failed before the SuperLink took an answer to be delivered."""
    if not isinstance(error, httpx.HTTPStatusError):
        return False
    return str(error.request.url.path).endswith("/pull-messages")


def _told(error: Exception) -> str:
    """Return what happened, in a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
