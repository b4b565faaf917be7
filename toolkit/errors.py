"""Errors that a user can act on."""


class ToolkitError(Exception):
    """A failure with one cause and, where there is one, a remedy.

    Args:
        cause: What went wrong, one sentence without a full stop.
        remedy: What to do about it, one sentence without a full stop.
    """

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(cause if not remedy else f"{cause}. {remedy}")
        self.cause = cause
        self.remedy = remedy
