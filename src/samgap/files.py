"""Writes files in one step, so that no reader sees half of a file, even after a crash."""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from samgap.errors import SettingError

PREFIX = ".part-"  # of the names of files that are being written


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path` in one step.

    The data is on the disk (fsync) before the name changes, so that a power cut leaves the old file or the
    new one. The temporary file keeps the ending of `path`, since some writers choose a format by it. Temporary files
    of killed processes in this folder are removed.

    Raises:
        OSError: the disk is full, or the folder cannot be written; `filename` of the error is the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _tidy(path.parent)
    handle, temporary = _temporary(path)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # a failed write does not set the file name
            error.filename = str(path.parent)
        raise
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def replace_text(path: Path, text: str) -> None:
    """Write a text as `replace` does. Characters without a UTF-8 form, as in file names, become Python escapes."""
    replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def read_json(path: Path, advice: str) -> Any:
    """Return the content of a JSON file.

    Args:
        path: of the file.
        advice: for the error message: what the user can do if the file is damaged.

    Raises:
        FileNotFoundError: there is no such file.
        SettingError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise SettingError(f"{path} is damaged ({str(error).splitlines()[0]}): {advice}.") from error


@contextlib.contextmanager
def workspace(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` in which to build `path`; remove the folder at the end.

    The folder of a killed process is emptied first. The caller must hold a lock on `path`.
    """
    folder = path.with_name(f"{PREFIX}{path.name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary(path: Path) -> tuple[int, Path]:
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=PREFIX, suffix=path.suffix)
        with contextlib.suppress(OSError):  # no locks on this disk
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # another process removed it before it was locked


def _tidy(folder: Path) -> None:
    for path in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # gone by now, locked by a live process, or no locks on this disk
            handle = os.open(path, os.O_RDWR)
            try:
                # The system releases this lock on close and when a process dies.
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(handle)


def _umask() -> int:
    # mkstemp creates files that only the owner can read, so `replace` sets the permissions that the umask allows.
    mask = os.umask(0)
    os.umask(mask)
    return mask
