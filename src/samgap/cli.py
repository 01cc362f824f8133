"""What the commands share: where the config lies, and how they end when something is wrong."""

import contextlib
import errno
import gc
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString, Sweep
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from samgap.errors import SettingError, shortage

os.environ["MPLBACKEND"] = "agg"  # a notebook leaves one here that its children cannot import
SOURCE = str(Path(__file__).parents[1])
CONF = str(Path(__file__).parents[2] / "conf")  # of the checkout; the package is installed in place
FULL = "HYDRA_FULL_ERROR"
OURS = ("hydra.run", "hydra.run.dir", "hydra.sweep", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir")
NUMBERED = ("1.", "2.", "3.")
# Variables that name folders in which libraries write; not those that say where a job was started.
PLACES = ("TMPDIR", "TMP", "TEMP", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCH_HOME", "MPLCONFIGDIR",
          "XDG_CACHE_HOME", "XDG_CONFIG_HOME")  # fmt: skip
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

tracebacks = False  # whether the user asked for them


def command(main: Callable[[], object]) -> None:
    """Run `main` and leave the process: 0 done, 1 wrong input or failed runs, 130 stopped by Ctrl-C.

    With HYDRA_FULL_ERROR=1 in the environment, whatever went wrong shows its traceback.
    """
    global tracebacks
    tracebacks = os.environ.get(FULL) == "1"
    os.environ[FULL] = "1"  # Hydra hands errors on instead of printing a traceback of its own
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # paths may have letters that the terminal has not
            stream.reconfigure(errors="backslashreplace")
    try:
        with sentences():
            if not Path(CONF).is_dir():
                raise SettingError(f"{CONF} does not exist: install samgap in place (pip install --editable .).")
            _refuse_strange_ranks()
            refuse(get_args_parser().parse_known_args()[0].overrides)
            main()
    except KeyboardInterrupt:
        _leave("Stopped. The same command goes on where it was.", 130)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Around the import of torch and Lightning: what they keep is not searched for garbage, neither then nor later.

    The searches, those at the end of the process among them, would take almost as long as all else in a tiny run.
    """
    loaded = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > loaded:  # not again for a further run, whose garbage would stay too
            gc.freeze()
        gc.enable()


def _refuse_strange_ranks() -> None:
    # Lightning reads what a launcher or a cluster left in the environment when it is imported.
    for variable in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        value = os.environ.get(variable, "1")
        if not value.isdecimal() or (variable.endswith("SIZE") and int(value) == 0):
            raise SettingError(f'The variable {variable} must be a whole number, got "{value}": unset it.')


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


def refuse(overrides: Iterable[str]) -> None:
    """Refuse what Hydra would stumble over, or take otherwise than it is meant.

    Args:
        overrides: as typed.

    Raises:
        SettingError: one of them cannot be.
    """
    parser = OverridesParser.create()
    for typed in overrides:
        try:
            override = parser.parse_overrides([typed])[0]
        except HydraException as error:
            raise SettingError(
                f"{typed} cannot be read as key=value: put a value with spaces or signs such as = ( [ {{ ~ in double "
                f"quotes, and all of it in single ones, such as 'root=\"/My Drive (1)\"'."
            ) from error
        key = override.key_or_group
        if key in OURS:
            raise SettingError(f"{key} cannot be set, since a run is found by the name of its folder: set root.")
        if override.is_delete() and not key.startswith("hydra.") and not choices(key):
            raise SettingError(f"{key} cannot be taken out: give it a value, such as null.")
        if key == "figure" and override.is_sweep_override():
            raise SettingError(f"figure must be one figure at a time, each with its own grid, got {typed}.")
        if (options := choices(key)) and not _names_files(override):
            raise SettingError(f"{key} must be one of {options}, got {typed}.")


def _names_files(override: Override) -> bool:
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return all(isinstance(one, str | QuotedString) for one in value.list)
    if isinstance(value, list):
        return all(isinstance(one, str) for one in value)
    return (
        value is None or isinstance(value, str | dict) or (isinstance(value, Sweep) and not override.is_range_sweep())
    )


def choices(group: str) -> str:
    """The files and folders in conf/`group`, "" where it is no folder."""
    try:
        inside = sorted(path.stem for path in Path(CONF, *group.split("/")).iterdir() if path.name != "base.yaml")
    except OSError:  # no folder, or too long a name to be one
        return ""
    return ", ".join(inside) if group else ""


def explain(error: BaseException) -> str | None:
    """One sentence for an error that the user can put right, None for any other."""
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, SettingError):
            # Of a process that reads images torch hands on the whole traceback as a text.
            return str(cause).rpartition(f"{SettingError.__name__}: ")[2].strip()
    for cause in reversed(chain):  # the first of them says most
        if sentence := shortage(cause):
            return sentence
    for cause in chain:
        if isinstance(cause, OSError) and cause.filename is not None:
            what, variables = f"{cause.filename} cannot be used ({cause.strerror})", _named_by(str(cause.filename))
            settings = " or ".join(["root", "data_dir", *variables])
            if cause.errno in FULL_DISK:
                return f"{what}: make room there or set {settings} elsewhere; the same command goes on where it was."
            if variables or not isinstance(cause, FileNotFoundError):
                return f"{what}: set {settings} to a folder that can be written."
    for cause in chain:
        if isinstance(cause, MissingConfigException):
            return " ".join([*_first_lines([cause]), *_there_is(cause.missing_cfg_file or "")])
    for cause in chain:
        if isinstance(cause, HydraException | OmegaConfBaseException):
            return " ".join([*_first_lines(chain), *_homes(chain)])
    if function := _raised_by_hydra(error):
        return f"Hydra does not take what was given ({' '.join(_first_lines(chain[:1])).rstrip('.') or function})."
    return None


def _named_by(path: str) -> list[str]:
    """The variables of the environment that may have put a file here, beside root and data_dir."""
    return [variable for variable in PLACES if (value := os.environ.get(variable)) and Path(path).is_relative_to(value)]


def _there_is(missing: str) -> list[str]:
    """What there is where a file was looked for, or in the nearest folder above that exists."""
    folder = missing
    while folder and not choices(folder):
        folder = folder.rpartition("/")[0]
    return [f"In conf/{folder} there are {choices(folder)}."] if folder else []


def _raised_by_hydra(error: BaseException) -> str:
    # The name of the function that raised while Hydra read the command line, "" at any other time. Of a flag or value
    # that it does not take Hydra often says so by an error of Python's.
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame.filename for frame in frames if frame.filename.startswith(SOURCE)]
    return frames[-1].name if ours[-1:] == [__file__] else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_lines(chain: list[BaseException]) -> list[str]:
    # Hydra names the override, its cause the key; the rest of each text is for programmers, but for numbered advice.
    texts = [str(cause).strip().splitlines() for cause in chain if str(cause).strip()]
    lines = [line for first, *rest in texts for line in (first, *(more for more in rest if more[:2] in NUMBERED))]
    lines = [line.replace("is not in struct", "does not exist") for line in lines]
    key = next((key for cause in chain if (key := getattr(cause, "full_key", None))), "")
    if lines and key not in lines[0]:
        lines.insert(0, f"{key} is wrong.")
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
                    group = path.parent.name
                    stems = _heirs(path) if path.stem == "base" else [path.stem]
                    options.setdefault(f"{group}.{leaf}", []).extend(f"{group}={stem}" for stem in stems)
            if key in options:
                yield f"It is a key of {', '.join(options[key])}."
            elif options:
                yield f"There is {', '.join(options)}."


def _heirs(base: Path) -> list[str]:
    """The files of a group that begin with its base."""
    files = sorted(path for path in base.parent.glob("*.yaml") if "\n  - base\n" in path.read_text(encoding="utf-8"))
    return [path.stem for path in files]


def _leave(sentence: str, code: int) -> None:
    print(f"samgap: {' '.join(sentence.splitlines())}", file=sys.stderr)
    sys.exit(code)
