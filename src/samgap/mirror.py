"""Weights & Biases beside the files: a run there that stops, slows and fails nothing here."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from samgap.errors import SettingError, said

FOLDER = "wandb"  # below multirun/
MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")  # all that WANDB_MODE may say


@contextlib.contextmanager
def run(
    root: Path,
    project: str,
    entity: str | None = None,
    mode: str | None = None,
    start_seconds: float = 20,
    end_seconds: float = 120,
    **about: Any,
) -> Iterator[Any]:
    """A W&B run, closed on the way out; offline where W&B cannot be reached or refuses.

    Args:
        root: where results lie; what is kept offline goes to its folder wandb/.
        project, entity: where in W&B.
        mode: online, offline or disabled; None is what the variable WANDB_MODE says, else online when this machine
            is logged in, else offline. Nothing is asked in any case.
        start_seconds: for W&B to answer; a run does without it then, and is kept offline.
        end_seconds: for W&B to take what is left.
        about: more of `wandb.init`.

    Raises:
        SettingError: there is no such mode.
    """
    mode = mode or os.environ.get("WANDB_MODE") or ("offline" if _missed or not _logged_in() else "online")
    if mode not in MODES:
        raise SettingError(f"logger.mode (or WANDB_MODE) must be online, offline or disabled, got {said(mode)}.")
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    opened = _start(mode, start_seconds, end_seconds, project=project, entity=entity, dir=root, **about)
    failed = True
    try:
        yield opened
        failed = False
    finally:
        with forgiving():
            opened.finish(exit_code=int(failed))


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    """Around everything that is said to W&B: what goes wrong is a warning."""
    try:
        yield
    except Exception as error:
        warnings.warn(f"W&B did not take all ({_line(error)}); the files have it.", stacklevel=2)
        end_process()


def _start(mode: str, start_seconds: float, end_seconds: float, **options: Any) -> Any:
    import wandb  # takes a second and a half, which runs without it should not pay

    # Its own description of the machine holds paths, the user's name and the git remote; our record says what matters.
    settings = wandb.Settings(
        silent=True, console="off", finish_timeout=end_seconds, x_disable_meta=True, disable_git=True
    )
    # A second init in one process would otherwise return the first run, with the first run's config.
    begin: Any = partial(wandb.init, reinit="create_new", resume="allow", settings=settings, **options)
    if mode == "online" and not _missed:
        try:
            # The limit is the server's alone: W&B's own process may take longer to start on a busy machine.
            limited = settings.model_copy(update={"init_timeout": start_seconds})
            return begin(mode=mode, settings=limited)
        except Exception as error:
            _missed.append(str(error))
            folder = Path(options["dir"]) / FOLDER
            warnings.warn(
                f"W&B did not take the run ({_line(error)}): it and those after it are kept offline in "
                f"{folder}, to be sent by `wandb sync {folder}/offline-run-*`.",
                stacklevel=2,
            )
            end_process()
    with forgiving():
        return begin(mode="offline" if mode == "online" else mode)
    return begin(mode="disabled")


_missed: list[str] = []  # why W&B could not be had; later runs of this process do not wait for it again


def end_process() -> None:
    """End W&B's own process, which would go on trying and keep the run's id from being used again.

    One that another program started and left in the environment cannot be ended from here: it is left alone.
    """
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)


def _logged_in() -> bool:
    import wandb

    # Without asking the server, which may be down: whether it takes the key is seen when a run starts.
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except wandb.errors.Error:  # a key that can be none; the start of a run says so
        return True


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
