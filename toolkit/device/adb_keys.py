"""The key pair a phone knows this user by: ~/.android/adbkey, shared with Android's own tools."""

import os
from pathlib import Path

from adb_shell.auth.keygen import keygen
from adb_shell.auth.sign_pythonrsa import PythonRSASigner

from toolkit.errors import ToolkitError


def key_path() -> Path:
    """Return the private key's path: in $ANDROID_USER_HOME or ~/.android."""
    home = os.environ.get("ANDROID_USER_HOME")
    return (Path(home) if home else Path.home() / ".android") / "adbkey"


def load_signer() -> PythonRSASigner:
    """Return the signer of the user's key, creating the pair (private part 0600) if absent."""
    path = key_path()
    try:
        if not path.exists():
            _create(path)
        elif not path.with_suffix(".pub").exists():
            _write_public(path)
        return PythonRSASigner.FromRSAKeyPath(str(path))
    except OSError as error:
        raise ToolkitError(
            f"cannot use the adb key {path}: {error.strerror}", "Check the folder's owner and mode"
        ) from error
    except ValueError as error:
        raise ToolkitError(
            f"the adb key {path} cannot be read", "Move it away; a new one is created"
        ) from error


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    temporary = path.with_name(f".adbkey.{os.getpid()}")
    public = Path(f"{temporary}.pub")
    previous = os.umask(0o077)
    try:
        keygen(str(temporary))
        public.replace(path.with_suffix(".pub"))
        temporary.replace(path)
    finally:
        os.umask(previous)
        temporary.unlink(missing_ok=True)
        public.unlink(missing_ok=True)


def _write_public(path: Path) -> None:
    from adb_shell.auth.keygen import write_public_keyfile

    write_public_keyfile(str(path), str(path.with_suffix(".pub")))
