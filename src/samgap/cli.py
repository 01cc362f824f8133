"""What the commands share: where the config lies, and how they end when something is wrong."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from samgap.errors import SettingError

CONF = str(Path(__file__).parents[2] / "conf")  # of the checkout; the package is installed in place
FULL = "HYDRA_FULL_ERROR"

tracebacks = False  # whether the user asked for them


def command(main: Callable[[], object]) -> None:
    """Run `main` and leave the process: 0 done, 1 wrong input or failed runs, 130 stopped by Ctrl-C.

    With HYDRA_FULL_ERROR=1 in the environment, whatever went wrong shows its traceback.
    """
    global tracebacks
    tracebacks = os.environ.get(FULL) == "1"
    os.environ[FULL] = "1"  # Hydra hands errors on instead of printing a traceback of its own
    try:
        with sentences():
            main()
    except KeyboardInterrupt:
        _leave("Stopped. The same command goes on where it was.", 130)


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Leave the process with one sentence when what happens inside is the user's to put right.

    Also used inside Hydra's job: an error that gets through to Hydra is announced by a line of its own.
    """
    try:
        yield
    except Exception as error:
        sentence = None if tracebacks else explain(error)
        if sentence is None:
            raise
        _leave(sentence, 1)


def explain(error: BaseException) -> str | None:
    """One sentence for an error that the user can put right, None for any other."""
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, SettingError):
            # Of a process that reads images torch hands on the whole traceback as a text.
            return str(cause).rpartition(f"{SettingError.__name__}: ")[2].strip()
    for cause in chain:
        if isinstance(cause, OSError) and cause.filename is not None and not isinstance(cause, FileNotFoundError):
            what = f"{cause.filename} cannot be used ({cause.strerror})"
            return f"{what}: set root or data_dir to a folder that can be written."
    for cause in chain:
        if isinstance(cause, HydraException | OmegaConfBaseException):
            return " ".join([*_first_lines(chain), *_homes(chain)])
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_lines(chain: list[BaseException]) -> list[str]:
    # Hydra names the override, its cause the key; the rest of each text is for programmers.
    lines = [str(cause).strip().splitlines()[0] for cause in chain if str(cause).strip()]
    return list(dict.fromkeys(line if line.endswith((".", "?")) else f"{line}." for line in lines))


def _homes(chain: list[BaseException]) -> Iterator[str]:
    """Where a key that Hydra does not find is at home: of a wrong group, or of one that was not chosen."""
    for cause in chain:
        if found := re.match(r"Could not override '([\w.]+)'", str(cause)):
            key = found[1]
            leaf = key.rpartition(".")[2]
            options: dict[str, list[str]] = {}
            for path in sorted(Path(CONF).glob("*/*.yaml")):
                if re.search(rf"^{leaf}:", path.read_text(encoding="utf-8"), re.MULTILINE):
                    options.setdefault(f"{path.parent.name}.{leaf}", []).append(f"{path.parent.name}={path.stem}")
            if key in options:
                yield f"It is a key of {', '.join(options[key])}."
            elif options:
                yield f"There is {', '.join(options)}."


def _leave(sentence: str, code: int) -> None:
    print(f"samgap: {sentence}", file=sys.stderr)
    sys.exit(code)
