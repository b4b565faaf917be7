"""How documents become rows; checked before anything that takes time is imported."""

from dataclasses import dataclass

from toolkit.data.documents import FORMS
from toolkit.data.template import ChatTemplate
from toolkit.errors import ToolkitError

LONG = ("split", "truncate", "drop")
LOSSES = ("assistant", "all")


@dataclass(frozen=True)
class Settings:
    """See `toolkit data --help`.

    Raises:
        ToolkitError: A setting is unknown or out of range.
    """

    seq_len: int
    loss: str = "assistant"
    pack: bool = True
    long: str = "split"
    validation: float = 0.05
    seed: int = 0
    template: bool = True
    form: str = "auto"
    me: str | None = None
    split: str | None = None
    subset: str | None = None
    chat_template: ChatTemplate | None = None

    def __post_init__(self) -> None:
        if self.seq_len < 1:
            raise ToolkitError(f"the sequence length {self.seq_len} is not positive")
        for name, value, known in (
            ("loss", self.loss, LOSSES),
            ("way", self.long, LONG),
            ("format", self.form, FORMS),
        ):
            if value not in known:
                raise ToolkitError(f"unknown {name} {value!r}", f"Use one of {', '.join(known)}")
        if not 0 <= self.validation < 1:
            raise ToolkitError(f"the held-out share {self.validation} is not in 0 <= share < 1")
