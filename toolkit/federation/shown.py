"""What a federation tells whoever watches it."""

from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.federation.orders import NodeReport


class Shown:
    """Shows nothing; who shows something overrides what it shows."""

    def goes_on(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Rounds are to come; these are finished."""

    def begins(self, number: int, rounds: int, nodes: int) -> None:
        """A round begins, of so many, on so many nodes."""

    def came(self, number: int, report: NodeReport) -> None:
        """A node came through a round; the one after the last only measures."""

    def failed(self, node: str, reason: str) -> None:
        """A node has no part in the round."""

    def finished(self, record: Mapping[str, Any]) -> None:
        """A round counts; what it came to is as in its round.json."""

    def ended(self, records: Sequence[Mapping[str, Any]], final: Mapping[str, Any]) -> None:
        """All rounds are done; `final` is what was measured after the last."""

    def say(self, line: str) -> None:
        """A line for people."""
