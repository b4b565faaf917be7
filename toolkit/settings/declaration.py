"""How a setting of a run is declared: once, as a field of a dataclass with what is known of it."""

import dataclasses
import difflib
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from toolkit.errors import ToolkitError

Value = str | int | float | None
"""What a setting can be; None: not given."""


@dataclass(frozen=True)
class Setting:
    """What is known of one setting.

    Attributes:
        name: In Python.
        flag: On command lines and in files, without dashes before it.
        type: str, int or float.
        default: None where it is not given.
        help: One sentence or two.
        unit: Of a number, "" without one.
        choices: The words it can be; any if empty.
        minimum, maximum: Of a number, both included.
        source: Who acts on it: the trainer, as its option of the same name, or the host.
        shown: What stands for a default of None in help.
        app: Whether runs of the Android app have it.
        plan: Whether `toolkit plan` asks for it.
    """

    name: str
    flag: str
    type: type
    default: Value
    help: str
    unit: str = ""
    choices: tuple[str, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf
    source: Literal["trainer", "host"] = "trainer"
    shown: str = ""
    app: bool = False
    plan: bool = False

    @property
    def default_text(self) -> str:
        """The default for people, empty without one."""
        if self.default is None:
            return self.shown
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def value_of(self, given: object) -> Value:
        """Return a value in the setting's type; numbers may be given as text, `5e-4` too.

        Raises:
            ToolkitError: It is none, out of range, or not one of the choices.
        """
        if given is None:
            return None
        value = self._converted(given)
        if self.choices and value not in self.choices:
            near = difflib.get_close_matches(str(value), self.choices, 1)
            known = f"Did you mean {near[0]}?" if near else f"Use {' or '.join(self.choices)}"
            raise ToolkitError(f"--{self.flag} {value} is unknown", known)
        if isinstance(value, int | float) and not self.minimum <= value <= self.maximum:
            raise ToolkitError(f"--{self.flag} {value} is not {self._range()}")
        return value

    def _converted(self, given: object) -> Value:
        if self.type is str:
            if isinstance(given, str) and given:
                return given
            raise ToolkitError(f"--{self.flag} takes a word, not {given!r}")
        try:
            if isinstance(given, bool) or not isinstance(given, Real | str):
                raise ValueError
            value = float(given)
            if not math.isfinite(value) or (self.type is int and value != int(value)):
                raise ValueError
        except ValueError:
            what = "a whole number" if self.type is int else "a number"
            raise ToolkitError(f"--{self.flag} takes {what}, not {given!r}") from None
        return int(value) if self.type is int else value

    def _range(self) -> str:
        if math.isinf(self.maximum):
            return f"at least {self.minimum:.10g}"
        return f"between {self.minimum:.10g} and {self.maximum:.10g}"


def setting(default: Value, help: str, **facts: Any) -> Any:
    """Return the field of a setting; `facts` are attributes of `Setting`."""
    return dataclasses.field(default=default, metadata={"help": help, **facts})


def settings_of(declared: Any) -> tuple[Setting, ...]:
    """Return the settings that a dataclass declares, in its order."""
    hints = get_type_hints(declared)
    return tuple(_setting(field, hints[field.name]) for field in dataclasses.fields(declared))


def _setting(field: Any, hint: Any) -> Setting:
    facts = {"flag": field.name.replace("_", "-"), **field.metadata}
    if get_origin(hint) in (types.UnionType, Union):
        hint = next(part for part in get_args(hint) if part is not type(None))
    return Setting(name=field.name, type=hint, default=field.default, **facts)


def by_flag(values: Mapping[str, object], known: Iterable[Setting], where: str) -> dict[str, Value]:
    """Return checked values by flag.

    Args:
        values: By flag or by name in Python, with dashes or underscores.
        known: What there is.
        where: Where the values come from, for errors.

    Raises:
        ToolkitError: One is unknown (the nearest is named), wrong, or there twice.
    """
    names = {setting.name.replace("_", "-"): setting for setting in known}
    names |= {setting.flag: setting for setting in names.values()}
    found: dict[str, Value] = {}
    for key, value in values.items():
        setting = names.get(str(key).replace("_", "-"))
        if setting is None:
            near = difflib.get_close_matches(str(key).replace("_", "-"), names, 1)
            remedy = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(names)}"
            raise ToolkitError(f"{where} has an unknown setting {str(key)[:80]!r}", remedy)
        if setting.flag in found:
            raise ToolkitError(f"{where} has {setting.flag!r} twice", "Leave one away")
        try:
            found[setting.flag] = setting.value_of(value)
        except ToolkitError as error:
            raise ToolkitError(f"{where}: {error.cause}", error.remedy) from None
    return found


def help_text(known: Setting) -> str:
    """Return help with the default, as command lines show it."""
    default = known.default_text
    return f"{known.help}  [default: {default}]" if default else known.help
