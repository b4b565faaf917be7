"""A chat template from a file, in place of the tokenizer's own."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import ToolkitError

FILE = "chat_template.jinja"
"""What a template is called in data directories and beside adapters, as `transformers` calls it."""

# A day that templates take for today, by the codes of strftime; Llama 3.2 falls back to it.
_DAY = {
    "%d": "26",
    "%-d": "26",
    "%e": "26",
    "%m": "07",
    "%b": "Jul",
    "%B": "July",
    "%y": "24",
    "%Y": "2024",
    "%a": "Fri",
    "%A": "Friday",
}


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template as chat templates are: `messages`, `tools` and `add_generation_prompt` in,
    the text of the chat out.

    Attributes:
        name: Of the file, for people.
        text: What the file holds.
    """

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """The hexadecimal SHA-256 of the text in UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_template(path: Path) -> ChatTemplate:
    """Read a template; whether it is one shows when a chat is encoded with it.

    Raises:
        ToolkitError: The file cannot be read, is not UTF-8 text, or shows no messages.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ToolkitError(f"the chat template {path} is not UTF-8 text") from error
    except OSError as error:
        raise ToolkitError(f"cannot read the chat template {path}: {error.strerror}") from error
    if "messages" not in text:
        raise ToolkitError(
            f"{path} is no chat template: it never names `messages`",
            "Give the Jinja template itself, such as a model's chat_template.jinja",
        )
    return ChatTemplate(path.name, text)


def on_one_day(text: str) -> str:
    """Return a template that writes the same date whenever it is rendered.

    Templates of Llama 3.2, SmolLM3 and Granite write today's date, but the same documents have to
    give the same data on any day.
    """
    if "strftime_now" not in text:
        return text
    replaced = "".join(f" | replace('{code}', '{value}')" for code, value in _DAY.items())
    # On the first line, and ended so that the text keeps its own first line end.
    macro = f"{{% macro strftime_now(format) %}}{{{{ format{replaced} }}}}{{% endmacro %}}"
    return macro + "{{ '' }}" + text
