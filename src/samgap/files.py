"""Write a file so that a reader, or a crash, never meets half of it."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary neighbor of `path`, then put it in place in one step.

    The data is on the disk (fsync) before the name changes, so that a power cut leaves the old file or the
    new one. The temporary file keeps the ending of `path`, since some writers choose a format by it.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """`replace` for a text; what is no UTF-8 in it, of a file's name, is written as Python escapes it."""
    replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def _umask() -> int:
    # mkstemp makes files that only their owner reads; results are for everyone whom the umask admits.
    mask = os.umask(0)
    os.umask(mask)
    return mask
