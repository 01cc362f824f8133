"""Opens sessions of Weights & Biases, whose failures and delays do not stop a run."""

import contextlib
import hashlib
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from samgap.errors import SettingError

FOLDER = "wandb"  # below multirun/
END_SECONDS = 5.0  # longest wait for W&B's process to end
TAG, TEXT = 64, 128  # most characters in W&B's tags and job types, and in ids, names and groups
# WANDB_ variables that this module unsets, since it sets these options itself. Notebooks, clusters and earlier programs
# may have set them to values that would select a wrong run.
OURS = ("CONSOLE", "DIR", "ENTITY", "FINISH_TIMEOUT", "FORK_FROM", "INIT_TIMEOUT", "JOB_TYPE", "LAUNCH", "MODE", "NAME",
        "PROJECT", "REINIT", "RESUME", "RESUME_FROM", "RUN_GROUP", "RUN_ID", "SERVICE", "SWEEP_ID", "SWEEP_PARAM_PATH",
        "TAGS")  # fmt: skip
AGENT = ("ENTITY", "PROJECT", "RUN_ID", "SWEEP_ID", "SWEEP_PARAM_PATH")  # with these, an agent selects its run


@contextlib.contextmanager
def run(
    root: Path, project: str, entity: str | None = None, mode: str | None = None, start_seconds: float = 20,
    end_seconds: float = 120, *, id: str, name: str, group: str, job_type: str, tags: Sequence[str], **about: Any,
) -> Iterator[Any]:  # fmt: skip
    """Yield a W&B run and close it; an offline run if W&B is unreachable or refuses, None if W&B does not start.

    Args:
        root: folder of the results; offline runs go to root/wandb/.
        project, entity: project and entity of the run in W&B.
        mode: online, offline or disabled; None is online if this machine is logged in, else offline. The user gets no
            prompt in any mode.
        start_seconds: longest wait for W&B to answer; after it the run is offline.
        end_seconds: longest wait for W&B to receive the remaining data.
        id, name, group, job_type, tags: properties of the run; they are shortened to W&B's limits.
        about: further arguments of `wandb.init`.
    """
    if mode == "disabled":
        yield None
        return
    with session(root):
        opened = _start(
            mode, root, start_seconds, end_seconds, project=project, entity=entity, id=shorten(id), name=shorten(name),
            group=shorten(group), job_type=shorten(job_type, TAG), tags=[shorten(tag, TAG) for tag in tags], **about,
        )  # fmt: skip
        failed = True
        try:
            yield opened
            failed = False
        finally:
            if opened is not None:
                _finish(opened, failed)


def _finish(opened: Any, failed: bool) -> None:
    try:
        opened.finish(exit_code=int(failed))
    except Exception as error:
        _warn(error)
        end_process()


@contextlib.contextmanager
def session(root: Path) -> Iterator[None]:
    """Set environment variables so that W&B uses our options and writes only below `root`; restore them at the end."""
    folder = (root / FOLDER).absolute()
    agent = AGENT if os.environ.get("WANDB_SWEEP_ID") and os.environ.get("WANDB_RUN_ID") else ()
    values: dict[str, str | None] = {f"WANDB_{name}": None for name in OURS if name not in agent}
    # W&B's default folders are in the home folder, which may be read-only.
    values |= {"WANDB_CACHE_DIR": f"{folder}/cache", "WANDB_DATA_DIR": f"{folder}/data", "WANDB_SILENT": "true"}
    try:
        Path.home()
    except RuntimeError:  # HOME is not set and the user has no entry: W&B would not start
        values["HOME"] = str(folder)
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


@contextlib.contextmanager
def account(root: Path, seconds: float, purpose: str, alternative: str) -> Iterator[Any]:
    """Yield the `wandb.Api` of the logged-in account, and turn W&B's errors into a SettingError.

    Args:
        root: folder of the results.
        seconds: longest wait for one answer of W&B.
        purpose, alternative: for the error: what needs the account, and what the user can do without one.

    Raises:
        SettingError: nobody is logged in, or W&B is unreachable or refuses.
    """
    import wandb
    from pydantic import ValidationError  # raised if a WANDB_ variable has a wrong value
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    with session(root):
        try:
            if not wandb.login(prompt=False, verify=False):  # else W&B would prompt for the key
                raise SettingError(
                    f"{purpose} needs a W&B account and this machine is not logged in: run `wandb login` or set "
                    f"WANDB_API_KEY, or {alternative}."
                )
            yield wandb.Api(timeout=max(1, round(seconds)))
        except (wandb.errors.Error, WandbApiFailedError, ValidationError, OSError) as error:
            end_process()  # else wandb would do it at exit, and might wait forever
            if getattr(error, "filename", None):  # an error of this disk, not of W&B
                raise
            raise SettingError(
                f"{purpose} failed at W&B ({line(error)}): look at the network, WANDB_BASE_URL and `wandb login`, or "
                f"{alternative}."
            ) from error


@contextlib.contextmanager
def errors_as_warnings() -> Iterator[None]:
    """Turn errors of calls to W&B into warnings."""
    try:
        yield
    except Exception as error:
        _warn(error)


def shorten(text: str, limit: int = TEXT) -> str:
    """Return the text; if it exceeds the limit, its beginning and a digest, so that texts stay different."""
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{text[: limit - len(digest) - 1]}-{digest}"


def _start(mode: str | None, root: Path, start_seconds: float, end_seconds: float, **options: Any) -> Any:
    try:
        import wandb  # takes a second and a half; runs without W&B do not need it

        mode = mode or ("offline" if _failures or not _logged_in() else "online")
        (root / FOLDER).mkdir(parents=True, exist_ok=True)
        # No machine metadata: W&B would send paths, the user's name and the git remote. Our record has what matters.
        settings = wandb.Settings(
            silent=True, console="off", finish_timeout=end_seconds, x_disable_meta=True, disable_git=True
        )
        # Without create_new, a second init in one process would return the first run with its config.
        begin: Any = partial(wandb.init, dir=root, reinit="create_new", resume="allow", **options)
        if mode not in ("offline", "dryrun") and not _failures:
            try:
                # The limit is only for the server: W&B's own process may take longer to start on a busy machine.
                return begin(mode="online", settings=settings.model_copy(update={"init_timeout": start_seconds}))
            except Exception as error:
                _failures.append(str(error))
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
            end_process()  # W&B's process may have died after the last run
            return begin(mode="offline", settings=settings)
    except Exception as error:
        warnings.warn(f"W&B does not start ({line(error)}): the run goes on without it.", stacklevel=1)
        end_process()
        return None


_failures: list[str] = []  # errors at the start of online runs; after one, this process only starts offline runs


def end_process() -> None:
    """End W&B's own process, which would keep trying and block another use of the run's id.

    With wandb 0.31, that process may miss the message to end if it follows a request without an answer, and
    `wandb.teardown` then waits forever. So this waits END_SECONDS; the other process ends with this one at the latest.
    """
    waiting = threading.Thread(target=_tear_down, daemon=True)
    waiting.start()
    waiting.join(END_SECONDS)


def _tear_down() -> None:
    with contextlib.suppress(Exception, SystemExit):  # wandb exits with the code of its process if that was killed
        import wandb

        wandb.teardown()


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _logged_in() -> bool:
    import wandb

    # Do not contact the server, which may be down. The start of a run shows whether it accepts the key.
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except wandb.errors.Error:  # the key has a wrong form; the start of a run reports it
        return True


def line(error: Exception) -> str:
    """Return the message of a W&B error in one line."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):  # its first line is only a count
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _warn(error: Exception) -> None:
    warnings.warn(f"W&B did not take all ({line(error)}); the files have it.", stacklevel=1)
