"""Code that all commands share: the location of the config, and error messages and exit codes."""

import contextlib
import errno
import gc
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString, Sweep
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from samgap.errors import SettingError, shortage

os.environ["MPLBACKEND"] = "agg"  # a notebook sets a backend here that its child processes cannot import
SOURCE = str(Path(__file__).parents[1])
CONF = str(Path(__file__).parents[2] / "conf")  # in the checkout, since the package is installed in place
FULL = "HYDRA_FULL_ERROR"
OURS = ("hydra.run", "hydra.run.dir", "hydra.sweep", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir")
NUMBERED = ("1.", "2.", "3.")
# Environment variables that name folders in which libraries write. A job's start folder is not among them.
PLACES = ("TMPDIR", "TMP", "TEMP", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCH_HOME", "MPLCONFIGDIR",
          "XDG_CACHE_HOME", "XDG_CONFIG_HOME")  # fmt: skip
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

tracebacks = False  # whether the user set HYDRA_FULL_ERROR=1


def command(main: Callable[[], object]) -> None:
    """Run `main`. Exit with code 1 on wrong input or failed runs, and 130 on Ctrl-C.

    With HYDRA_FULL_ERROR=1 in the environment, every error shows its traceback.
    """
    global tracebacks
    tracebacks = os.environ.get(FULL) == "1"
    os.environ[FULL] = "1"  # makes Hydra raise errors instead of printing its own traceback
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a path may have letters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        with sentences():
            if not Path(CONF).is_dir():
                raise SettingError(f"{CONF} does not exist: install samgap in place (pip install --editable .).")
            _refuse_strange_ranks()
            refuse(get_args_parser().parse_known_args()[0].overrides)
            OmegaConf.register_new_resolver("conf", choices, replace=True)  # for --help
            main()
            sys.stdout.flush()  # an error of the last lines too is met here
    except KeyboardInterrupt:
        _leave("Stopped. The same command goes on where it was.", 130)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Exclude objects that an import creates from garbage collection; for the import of torch and Lightning.

    Otherwise garbage collection would take almost as long as everything else in a tiny run, also at process exit.
    """
    loaded = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > loaded:  # not for a later run: its garbage would stay too
            gc.freeze()
        gc.enable()


def _refuse_strange_ranks() -> None:
    # Lightning reads these variables on import; a launcher or a cluster may have left wrong values.
    for variable in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        value = os.environ.get(variable, "1")
        if not value.isdecimal() or (variable.endswith("SIZE") and int(value) == 0):
            raise SettingError(f'The variable {variable} must be a whole number, got "{value}": unset it.')


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Turn an error that the user can fix into one sentence and exit code 1.

    Also used inside Hydra's job, since Hydra adds a line to each error that reaches it.
    """
    try:
        yield
    except BrokenPipeError:  # what read the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its exit
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        sentence = None if tracebacks else explain(error)
        if sentence is None:
            raise
        _leave(sentence, 1)


def refuse(overrides: Iterable[str]) -> None:
    """Refuse overrides that Hydra would reject with an unclear error or misunderstand.

    Args:
        overrides: as typed.

    Raises:
        SettingError: an override is wrong.
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
    """Return the names of files and folders in conf/`group`, or "" if it is no folder."""
    try:
        inside = sorted(path.stem for path in Path(CONF, *group.split("/")).iterdir() if path.name != "base.yaml")
    except OSError:  # no folder, or the name is too long
        return ""
    return ", ".join(inside) if group else ""


def explain(error: BaseException) -> str | None:
    """Return one sentence for an error that the user can fix, None for any other."""
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, SettingError):
            # If a worker process that reads images fails, torch puts its whole traceback into the message.
            return str(cause).rpartition(f"{SettingError.__name__}: ")[2].strip()
    for cause in reversed(chain):  # the first error says most
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
    """Return the environment variables that name a folder above `path`."""
    return [variable for variable in PLACES if (value := os.environ.get(variable)) and Path(path).is_relative_to(value)]


def _there_is(missing: str) -> list[str]:
    """Return a sentence that lists the files in the folder of `missing`, or in the nearest folder that exists."""
    folder = missing
    while folder and not choices(folder):
        folder = folder.rpartition("/")[0]
    near = get_close_matches(missing[len(folder) + 1 :].split("/")[0], choices(folder).split(", "), 1)
    meant = [f"Did you mean {near[0]}?"] if near else []
    return [*meant, f"In conf/{folder} there are {choices(folder)}."] if folder else []


def _raised_by_hydra(error: BaseException) -> str:
    # Hydra often raises a built-in Python error for a flag or value that it does not accept. Return the name of the
    # function that raised while Hydra read the command line, "" at any other time.
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame.filename for frame in frames if frame.filename.startswith(SOURCE)]
    return frames[-1].name if ours[-1:] == [__file__] else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_lines(chain: list[BaseException]) -> list[str]:
    # Hydra's error names the override, its cause names the key. Of the other lines only numbered ones help a user.
    texts = [str(cause).strip().splitlines() for cause in chain if str(cause).strip()]
    lines = [line for first, *rest in texts for line in (first, *(more for more in rest if more[:2] in NUMBERED))]
    lines = [line.replace("is not in struct", "does not exist") for line in lines]
    key = next((key for cause in chain if (key := getattr(cause, "full_key", None))), "")
    if lines and key not in lines[0]:
        lines.insert(0, f"{key} is wrong.")
    return list(dict.fromkeys(line if line.endswith((".", "?")) else f"{line}." for line in lines))


def _homes(chain: list[BaseException]) -> Iterator[str]:
    """Name the groups that have a key that Hydra did not find: the user gave a wrong group or did not choose it."""
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
            elif near := get_close_matches(key, _keys(), 1, cutoff=0.7):
                yield f"Did you mean {near[0]}? All keys: docs/settings.md."
            else:
                yield "All keys: docs/settings.md."


def _keys() -> set[str]:
    """Return all keys of conf/ as they are typed, such as seed and optimizer.lr."""
    files = [(path, "") for path in Path(CONF).glob("*.yaml")]
    files += [(path, f"{path.parent.name}.") for path in Path(CONF).glob("*/*.yaml")]
    groups = {path.name for path in Path(CONF).iterdir() if path.is_dir()}
    return groups | {
        f"{group}{key}"
        for path, group in files
        for key in re.findall(r"^(\w+):", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def _heirs(base: Path) -> list[str]:
    """Return the names of the files that include `base`."""
    files = sorted(path for path in base.parent.glob("*.yaml") if "\n  - base\n" in path.read_text(encoding="utf-8"))
    return [path.stem for path in files]


def _leave(sentence: str, code: int) -> None:
    print(f"samgap: {' '.join(sentence.splitlines())}", file=sys.stderr)
    sys.exit(code)
