"""Output of the commands: help, tables of 100 columns, and how a command ends."""

import argparse
import contextlib
import errno
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator
from difflib import get_close_matches
from typing import Any, NoReturn

FULL = (errno.ENOSPC, errno.EDQUOT)  # a full disk, or a user's share of it
COLUMNS = 100  # most characters in a line of a table
DISK_FULL = "The disk that the output goes to is full: make room there, or send the output elsewhere."


def parser(command: str, about: str | None, *examples: str) -> argparse.ArgumentParser:
    """Return the parser of a command with options.

    Args:
        command: such as "samgap.theory".
        about: text whose first paragraph is the help.
        examples: arguments of the command; each is a line of the help.
    """
    lines = [f"  python -m {command} {example}".rstrip() for example in examples]
    return argparse.ArgumentParser(
        f"python -m {command}", description=textwrap.fill((about or "").partition("\n\n")[0], COLUMNS),
        epilog="\n".join(["examples:", *lines]), formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip


def refuse_unknown(parser: argparse.ArgumentParser, named: Iterable[str], known: Collection[str]) -> None:
    """End the command with an error if a named part is not known."""
    for name in named:
        if name not in known:
            close_matches = get_close_matches(name, known, 1)
            suggestion = f" Did you mean {close_matches[0]}?" if close_matches else ""
            parser.error(f"a part is one of {', '.join(known)}, got {name}.{suggestion}")


def wrapped(head: str, text: str) -> str:
    """Return a row of a table: its head, and a text that is wrapped in its own column."""
    return textwrap.fill(text, COLUMNS, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)


def table(frame: Any) -> str:
    """Return a data frame of texts as a table. If it is too wide, the heads of columns are wrapped."""
    text: str = frame.to_string(index=False)
    if max(map(len, text.splitlines())) <= COLUMNS:
        return text
    columns = []
    for name, cells in frame.astype(str).items():
        widest = max([1, *map(len, cells)])
        columns.append(
            (textwrap.wrap(re.sub(r"_|(?<=\w\w)\.", " ", name), widest, break_long_words=False), list(cells))
        )
    height = max(len(head) for head, _ in columns)
    grid = [[""] * (height - len(head)) + head + cells for head, cells in columns]
    widths = [max(map(len, column)) for column in grid]
    return "\n".join(
        " ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in zip(*grid, strict=True)
    )


def format_duration(seconds: float) -> str:
    """Return a duration as text, such as "1:02:03", or "4:05" below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def script(main: Callable[[], int | None]) -> NoReturn:
    """Run a command with options, such as --out, and exit with its code; with 130 on Ctrl-C."""
    try:
        with flushed():
            code = main()
    except KeyboardInterrupt:
        end("Stopped.", 130)
    except BrokenPipeError:
        leave_pipe()
    except OSError as error:
        if error.errno not in FULL:
            raise
        end(DISK_FULL if is_full(error) else f"{error.filename} cannot be written ({error.strerror}): make room.", 1)
    sys.exit(code)


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """Raise errors of the last lines of output here, also if the `with` block exits, as --help and --version do."""
    try:
        yield
    finally:
        print(end="", flush=True)


def end(sentence: str, code: int) -> NoReturn:
    """Print a sentence on stderr and exit."""
    try:
        print(end="", flush=True)
    except OSError:
        _discard_output()
    print(f"samgap: {' '.join(sentence.splitlines())}", file=sys.stderr)
    sys.exit(code)


def leave_pipe() -> NoReturn:
    """Exit in silence, since the reader of the output, such as head, has ended."""
    _discard_output()
    sys.exit(128 + signal.SIGPIPE)


def is_full(error: BaseException) -> bool:
    """Return whether an error is about the disk of the output; an error about a file has the file's name."""
    return isinstance(error, OSError) and error.errno in FULL and error.filename is None


def _discard_output() -> None:
    # At exit Python would try again to write what is left, and print an error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
