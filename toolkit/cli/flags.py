"""Flags of commands, made from the declaration of a run's settings."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import typer

from toolkit.settings.declaration import Setting, help_text


def takes(
    settings: Iterable[Setting], **own: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command a flag for every setting.

    The command gets the values that were given as its first argument, by flag; its own parameters
    stay as they are and come first in its help.

    Args:
        own: Help, by name, where the command's differs from the declaration's.
    """
    known = {setting.name: setting for setting in settings}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def flagged(**values: Any) -> None:
            given = {row.flag: values.pop(name) for name, row in known.items()}
            command({flag: v for flag, v in given.items() if v is not None}, **values)

        signature = inspect.signature(command)
        _, *parameters = signature.parameters.values()
        parameters += [_parameter(row, own.get(name)) for name, row in known.items()]
        shown: Any = flagged
        shown.__signature__ = signature.replace(parameters=parameters)
        shown.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        return flagged

    return decorate


def _parameter(known: Setting, help: str | None) -> inspect.Parameter:
    literal: Any = Literal
    annotated: Any = Annotated
    kind: Any = literal[known.choices] if known.choices else known.type
    minimum = known.minimum if known.type in (int, float) and known.minimum > -1e300 else None
    option = typer.Option(
        f"--{known.flag}", min=minimum, show_default=False, help=help or help_text(known)
    )
    return inspect.Parameter(
        known.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=annotated[kind | None, option],
    )
