"""How replies are chosen and when they end: flags of `generate` and `chat`, and their defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolkit.errors import ToolkitError
from toolkit.settings.declaration import Value, setting, settings_of


@dataclass(frozen=True)
class Choosing:
    """What the trainer acts on, in this order: penalty, temperature, top_k, top_p, min_p."""

    max_tokens: int = setting(
        256, "End a reply after so many tokens; 0: when the context is full.", minimum=0
    )
    temperature: float = setting(0.7, "0 always takes the likeliest token.", minimum=0, maximum=100)
    top_k: int = setting(0, "Draw from the K likeliest tokens; 0: from all.", minimum=0)
    top_p: float = setting(
        0.95,
        "Draw from the fewest likeliest tokens that have this probability together.",
        minimum=0,
        maximum=1,
    )
    min_p: float = setting(
        0.0,
        "Draw from tokens at least this share as likely as the likeliest.",
        minimum=0,
        maximum=1,
    )
    repetition_penalty: float = setting(
        1.0,
        "Divide the logits of tokens that were there by it; 1: leave them.",
        minimum=0.01,
        maximum=100,
    )
    seed: int = setting(
        0,
        "The same seed gives the same reply to the same prompt, but for ties within rounding.",
        minimum=0,
        maximum=2**53,
    )


SETTINGS = settings_of(Choosing)
"""All of them but the texts that stop."""


@dataclass(frozen=True)
class ReplySettings(Choosing):
    """The same with the texts that end a reply, and are left out of it.

    Raises:
        ToolkitError: A value is not possible.
    """

    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for known in SETTINGS:
            known.value_of(getattr(self, known.name))
        if "" in self.stop:
            raise ToolkitError("An empty text would stop every reply", "Give --stop some text")

    @classmethod
    def from_flags(cls, flags: Mapping[str, Value], stop: Sequence[str]) -> "ReplySettings":
        """Return the settings of a command line, flags that were not given left out."""
        names = {known.flag: known.name for known in SETTINGS}
        given = {names[flag]: value for flag, value in flags.items()}
        return cls(**given, stop=tuple(stop))  # type: ignore[arg-type]

    def options(self) -> dict[str, str]:
        """Return the options of `trainer generate`; texts that stop are looked for here."""
        return {known.flag: str(getattr(self, known.name)) for known in SETTINGS}
