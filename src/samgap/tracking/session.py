"""Weights & Biases beside the files: a run there that stops, slows and fails nothing here."""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from samgap.errors import SettingError

FOLDER = "wandb"  # below multirun/
TAG, TEXT = 64, 128  # characters that W&B takes in a tag or job type, and in an id, name or group
# WANDB_ variables that say what is said here. Notebooks, clusters and earlier programs leave them behind, and they
# would make another run of ours, or none.
OURS = ("CONSOLE", "DIR", "ENTITY", "FINISH_TIMEOUT", "FORK_FROM", "INIT_TIMEOUT", "JOB_TYPE", "LAUNCH", "MODE", "NAME",
        "PROJECT", "REINIT", "RESUME", "RESUME_FROM", "RUN_GROUP", "RUN_ID", "SERVICE", "SWEEP_ID", "SWEEP_PARAM_PATH",
        "TAGS")  # fmt: skip
AGENT = ("ENTITY", "PROJECT", "RUN_ID", "SWEEP_ID", "SWEEP_PARAM_PATH")  # by which an agent names the run it waits for


@contextlib.contextmanager
def run(
    root: Path,
    project: str,
    entity: str | None = None,
    mode: str | None = None,
    start_seconds: float = 20,
    end_seconds: float = 120,
    *,
    id: str,
    name: str,
    group: str,
    job_type: str,
    tags: Sequence[str],
    **about: Any,
) -> Iterator[Any]:
    """A W&B run, closed on the way out; offline where W&B is out of reach or refuses, None where it does not start.

    Args:
        root: where results lie; what is kept offline goes to its folder wandb/.
        project, entity: where in W&B.
        mode: online, offline or disabled; None is online when this machine is logged in, else offline. Nothing is
            asked in any case.
        start_seconds: for W&B to answer; a run does without it then, and is kept offline.
        end_seconds: for W&B to take what is left.
        id, name, group, job_type, tags: of the run; cut to what W&B takes.
        about: more of `wandb.init`.
    """
    if mode == "disabled":
        yield None
        return
    with session(root):
        opened = _start(
            mode, root, start_seconds, end_seconds, project=project, entity=entity, id=fit(id), name=fit(name),
            group=fit(group), job_type=fit(job_type, TAG), tags=[fit(tag, TAG) for tag in tags], **about,
        )  # fmt: skip
        failed = True
        try:
            yield opened
            failed = False
        finally:
            if opened is not None:
                try:
                    opened.finish(exit_code=int(failed))
                except Exception as error:
                    _lost(error)
                    end_process()


@contextlib.contextmanager
def session(root: Path) -> Iterator[None]:
    """The environment in which W&B does as it is told here and writes below `root` alone; put back on the way out."""
    folder = (root / FOLDER).absolute()
    agent = AGENT if os.environ.get("WANDB_SWEEP_ID") and os.environ.get("WANDB_RUN_ID") else ()
    values: dict[str, str | None] = {f"WANDB_{name}": None for name in OURS if name not in agent}
    # Its own places are below the home folder, which may be read-only.
    values |= {"WANDB_CACHE_DIR": f"{folder}/cache", "WANDB_DATA_DIR": f"{folder}/data", "WANDB_SILENT": "true"}
    try:
        Path.home()
    except RuntimeError:  # neither HOME nor a user of this number: W&B would not start
        values["HOME"] = str(folder)
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


@contextlib.contextmanager
def account(root: Path, seconds: float, what: str, instead: str) -> Iterator[Any]:
    """`wandb.Api` of whoever is logged in here, for as long as W&B answers.

    Args:
        root: where results lie.
        seconds: for W&B to answer once.
        what: wants the account, and `instead`: what can be done without; both go into the sentence.

    Raises:
        SettingError: nobody is logged in, or W&B is out of reach or refuses.
    """
    import wandb
    from pydantic import ValidationError  # of a variable of W&B's that has no sense
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    with session(root):
        try:
            if not wandb.login(prompt=False, verify=False):  # W&B would ask for the key
                raise SettingError(
                    f"{what} wants a W&B account and this machine is not logged in: run `wandb login` or set "
                    f"WANDB_API_KEY, or {instead}."
                )
            yield wandb.Api(timeout=max(1, round(seconds)))
        except (wandb.errors.Error, WandbApiFailedError, ValidationError, OSError) as error:
            if getattr(error, "filename", None):  # of our own disk
                raise
            raise SettingError(
                f"{what} failed at W&B ({line(error)}): look at the network, WANDB_BASE_URL and `wandb login`, or "
                f"{instead}."
            ) from error


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    """Around everything that is said to W&B: what goes wrong is a warning."""
    try:
        yield
    except Exception as error:
        _lost(error)


def fit(text: str, limit: int = TEXT) -> str:
    """The text, or its beginning and a digest of it, so that two long texts stay two."""
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{text[: limit - len(digest) - 1]}-{digest}"


def _start(mode: str | None, root: Path, start_seconds: float, end_seconds: float, **options: Any) -> Any:
    try:
        import wandb  # takes a second and a half, which runs without it should not pay

        mode = mode or ("offline" if _missed or not _logged_in() else "online")
        (root / FOLDER).mkdir(parents=True, exist_ok=True)
        # Its own description of the machine holds paths, the user's name and the git remote; our record says what
        # matters.
        settings = wandb.Settings(
            silent=True, console="off", finish_timeout=end_seconds, x_disable_meta=True, disable_git=True
        )
        # A second init in one process would otherwise return the first run, with the first run's config.
        begin: Any = partial(wandb.init, dir=root, reinit="create_new", resume="allow", **options)
        if mode not in ("offline", "dryrun") and not _missed:
            try:
                # The limit is the server's alone: W&B's own process may take longer to start on a busy machine.
                return begin(mode="online", settings=settings.model_copy(update={"init_timeout": start_seconds}))
            except Exception as error:
                _missed.append(str(error))
                folder = root / FOLDER
                warnings.warn(
                    f"W&B did not take the run ({line(error)}): it and those after it are kept offline in "
                    f"{folder}, to be sent by `wandb sync {folder}/offline-run-*`.",
                    stacklevel=1,
                )
                end_process()
        try:
            return begin(mode="offline", settings=settings)
        except Exception:
            end_process()  # it may have died since the last run
            return begin(mode="offline", settings=settings)
    except Exception as error:
        warnings.warn(f"W&B does not start ({line(error)}): the run goes on without it.", stacklevel=1)
        end_process()
        return None


_missed: list[str] = []  # why W&B could not be had; later runs of this process do not wait for it again


def end_process() -> None:
    """End W&B's own process, which would go on trying and keep the run's id from being used again."""
    with contextlib.suppress(Exception, SystemExit):  # it would leave with the exit code of a process that was killed
        import wandb

        wandb.teardown()


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _logged_in() -> bool:
    import wandb

    # Without asking the server, which may be down: whether it takes the key is seen when a run starts.
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except wandb.errors.Error:  # a key that can be none; the start of a run says so
        return True


def line(error: Exception) -> str:
    """What an error of W&B's says, in a line."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):  # whose first line is a count
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _lost(error: Exception) -> None:
    warnings.warn(f"W&B did not take all ({line(error)}); the files have it.", stacklevel=1)
