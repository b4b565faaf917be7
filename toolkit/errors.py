"""Errors and warnings that a user can act on."""

import errno
import os


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


class ToolkitWarning(UserWarning):
    """Something that may not be what the user meant; the command line shows it as a line."""


_REMEDIES = {
    errno.ENOSPC: "Free some space on this machine and run the command again",
    errno.EDQUOT: "Free some space on this machine and run the command again",
    errno.EACCES: "Choose a place that you may read and write",
    errno.EPERM: "Choose a place that you may read and write",
    errno.EROFS: "Choose a place that can be written",
    errno.ENOENT: "Check the path",
    errno.ENOTDIR: "Check the path: a part of it is no folder",
    errno.EISDIR: "Name a file, not a folder",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.EMFILE: "Raise the limit of open files (`ulimit -n`)",
    errno.EIO: "Check the storage that it is on",
}


def explain_os_error(error: OSError) -> ToolkitError:
    """Return what the operating system refused as an error that names file, reason and remedy."""
    reason = (error.strerror or str(error) or type(error).__name__).strip()
    reason = reason[:1].lower() + reason[1:]
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if name]
    if names:
        cause = f"{' and '.join(names)}: {reason}"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        cause = f"a file could not be written: {reason}"
    else:
        cause = f"the system refused: {reason}"
    return ToolkitError(cause, _REMEDIES.get(error.errno or 0, ""))
