"""Code that all commands share: error messages and exit codes."""

import contextlib
import gc
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from samgap import console, overrides
from samgap.errors import SettingError, shortage

os.environ["MPLBACKEND"] = "agg"  # else child processes inherit a notebook's backend, which they cannot import
SOURCE = str(Path(__file__).parents[1])
CONF = overrides.CONF
FULL = "HYDRA_FULL_ERROR"
FOLDER_VARIABLES = ("TMPDIR", "TMP", "TEMP", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCH_HOME",
                    "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")  # fmt: skip

tracebacks = False  # whether the user set HYDRA_FULL_ERROR=1


def command(main: Callable[[], object], sweeps: bool = False) -> None:
    """Run `main`, which takes --multirun if it `sweeps`. Exit with code 1 on wrong input or failed runs, 130 on Ctrl-C.

    With HYDRA_FULL_ERROR=1 in the environment, every error shows its traceback.
    """
    global tracebacks
    tracebacks = os.environ.get(FULL) == "1"
    os.environ[FULL] = "1"  # makes Hydra raise errors instead of printing its own traceback
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a path may have letters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        with sentences(), console.flushed():
            if not Path(CONF).is_dir():
                raise SettingError(f"{CONF} does not exist: install samgap in place (pip install --editable .).")
            _refuse_strange_ranks()
            given, left = get_args_parser().parse_known_args()
            if left:
                raise SettingError(f"{left[0]} was not understood: options such as -m come before all key=value.")
            if given.multirun and not sweeps:
                raise SettingError("Only samgap.train carries out a sweep: leave out -m (--multirun).")
            overrides.refuse(given.overrides)
            OmegaConf.register_new_resolver("conf", overrides.choices, replace=True)  # for --help
            main()
    except KeyboardInterrupt:
        console.end("Stopped. The same command goes on where it was.", 130)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Exclude what imports in the `with` block create from garbage collection, which takes as long as a tiny run."""
    loaded = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > loaded:  # else there was no import, and freezing would keep garbage of earlier runs
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

    It is also used inside Hydra's job, since Hydra adds a line to each error that reaches it.
    """
    try:
        yield
    except BrokenPipeError:
        console.leave_pipe()
    except Exception as error:
        sentence = None if tracebacks else explain(error)
        if sentence is None:
            raise
        console.end(sentence, 1)


def explain(error: BaseException) -> str | None:
    """Return one sentence for an error that the user can fix, None for any other."""
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, SettingError):
            # If a worker process that reads images fails, torch puts its whole traceback into the message.
            return str(cause).rpartition(f"{SettingError.__name__}: ")[2].strip()
    for cause in reversed(chain):  # the original error is the most specific
        if sentence := shortage(cause):
            return sentence
    for cause in chain:
        if isinstance(cause, OSError) and cause.filename is not None:
            problem, path = f"{cause.filename} cannot be used ({cause.strerror})", Path(str(cause.filename))
            variables = [
                name for name in FOLDER_VARIABLES if (folder := os.environ.get(name)) and path.is_relative_to(folder)
            ]
            settings = " or ".join(["root", "data_dir", *variables])
            if cause.errno in console.FULL:
                return f"{problem}: make room there or set {settings} elsewhere; the same command goes on where it was."
            if variables or not isinstance(cause, FileNotFoundError):
                return f"{problem}: set {settings} to a folder that can be written."
        if console.is_full(cause):
            return console.DISK_FULL
    for cause in chain:
        if isinstance(cause, MissingConfigException):
            return " ".join([*_first_lines([cause]), *_file_hints(cause.missing_cfg_file or "")])
    for cause in chain:
        if isinstance(cause, HydraException | OmegaConfBaseException):
            return " ".join([*_first_lines(chain), *_key_hints(chain)])
    if function := _raised_by_hydra(error):
        return f"Hydra does not take what was given ({' '.join(_first_lines(chain[:1])).rstrip('.') or function})."
    return None


def _file_hints(missing: str) -> list[str]:
    """Return a sentence that lists the files in the folder of `missing`, or in the nearest folder that exists."""
    folder = missing
    while folder and not overrides.choices(folder):
        folder = folder.rpartition("/")[0]
    names = overrides.choices(folder)
    close_matches = get_close_matches(missing[len(folder) + 1 :].split("/")[0], names.split(", "), 1)
    suggestion = [f"Did you mean {close_matches[0]}?"] if close_matches else []
    return [*suggestion, f"In conf/{folder} there are {names}."] if folder else []


def _raised_by_hydra(error: BaseException) -> str:
    # Hydra often raises a built-in Python error for a flag or value that it does not accept. Returns the name of the
    # function that raised, if this happened while Hydra read the command line, else "".
    frames = traceback.extract_tb(error.__traceback__)
    own_files = [frame.filename for frame in frames if frame.filename.startswith(SOURCE)]
    return frames[-1].name if own_files and own_files[-1] in (__file__, overrides.__file__) else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_lines(chain: list[BaseException]) -> list[str]:
    # Hydra's error names the override, its cause names the key. Of further lines, only numbered ones help a user.
    texts = [str(cause).strip().splitlines() for cause in chain if str(cause).strip()]
    lines = [line for first, *rest in texts for line in (first, *(each for each in rest if re.match(r"[123]\.", each)))]
    lines = [line.replace("is not in struct", "does not exist") for line in lines]
    key = next((key for cause in chain if (key := getattr(cause, "full_key", None))), "")
    if lines and key not in lines[0]:
        lines.insert(0, f"{key} is wrong.")
    return list(dict.fromkeys(line if line.endswith((".", "?")) else f"{line}." for line in lines))


def _key_hints(chain: list[BaseException]) -> Iterator[str]:
    """Yield sentences with the right place or name of each key that Hydra did not find."""
    for cause in chain:
        if match := re.match(r"Could not override '([\w.]+)'", str(cause)):
            key, keys = match[1], _keys()
            same_name = [other for other in keys if other.split(".")[-1] == key.split(".")[-1]]
            if key in keys:
                yield f"It is a key of {', '.join(keys[key])}." if "." in key else f"This command does not take {key}."
            elif same_name:
                yield f"There is {', '.join(same_name)}."
            else:
                yield from (f"Did you mean {close}?" for close in get_close_matches(key, keys, 1, cutoff=0.7))
                yield "All keys: docs/settings.md."


def _keys() -> dict[str, list[str]]:
    """Return all keys of conf/, such as optimizer.lr, with the choices that have the key, such as optimizer=sgd.

    A key of a base.yaml belongs to each file that includes it.
    """
    owners: dict[str, list[str]] = {}
    for path in (path for depth in ("", "*/", "hydra/launcher/") for path in sorted(Path(CONF).glob(f"{depth}*.yaml"))):
        group = "" if path.parent == Path(CONF) else path.parent.relative_to(CONF).as_posix()
        files = [path]
        if path.stem == "base":
            files = [file for file in sorted(path.parent.glob("*.yaml")) if "\n  - base\n" in file.read_text("utf-8")]
        text = path.read_text("utf-8")
        package = re.match("# @package (.+)", text)
        place = package[1] if package else group.replace("/", ".")
        for key in re.findall(r"^(?!defaults)(\w+):", text, re.MULTILINE) if place != "_global_" else ():
            name = f"{place}.{key}" if place else key
            owners.setdefault(name, []).extend(f"{group}={file.stem}" for file in files)
    return owners | {path.name: [] for path in Path(CONF).iterdir() if path.is_dir()}
