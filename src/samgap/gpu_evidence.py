"""`python -m samgap.gpu_evidence`: what ten more minutes of one GPU bring, as records that `samgap.draw` draws.

- fig8, conf/figure/fig8/gpu.yaml: ResNet-18 on a folder of color images, for as many epochs as fit. A warm-up measures
  the step time of all runs, with as many at once as later. The resulting number of epochs is saved before the first run
  starts. It applies to every run, also if the same command resumes on another day.
- fig7, conf/figure/fig7/gpu.yaml: the MLP at paper scale, with as many seeds as fit.

Several processes share the GPU, one run each at a time. A process imports torch and reads the data once for all its
runs of a part. When the time is over, the runs stop as by Ctrl-C, and the same command resumes them.
"""

import argparse
import contextlib
import heapq
import itertools
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from hydra.utils import instantiate
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback

from samgap import cli, files, naming, provenance
from samgap.errors import SettingError
from samgap.runs import identity, sweeps
from samgap.runs.records import RunOutcome
from samgap.training.run import run
from samgap.training.settings import PRECISIONS, resolve

PARTS = ("fig8", "fig7")
FIRST = 0.6  # share of the minutes for the first of two parts
FILL = 0.85  # share of a part's time planned for epochs; evaluation and whatever the warm-up misses take the rest
WARM_UP = 0.05  # share of a part's time for the steps of the warm-up
SEEDS = 3  # of figure 7, as in the paper
AT_ONCE = 12  # most runs at once, one per CPU core: a small net leaves most of a GPU idle
PLAN = "plan.json"
TINY = ("scale=rehearsal", "trainer=cpu", "trainer.stepper=eager", "epochs=2", "data.train_size=128", "ascent.rho=0,.1")


class TimeIsOver(BaseException):
    """Stops a run that will resume; not an Exception, since that would write an error.txt."""


@dataclass(frozen=True, kw_only=True)
class Timed(RunOutcome):
    """The outcome of a run, with the time of an epoch."""

    epochs: int
    epoch_seconds: float | None = None  # None when there were too few steps


class Clock(Callback):
    """Stops a run when its time is over, and records the times of its steps."""

    def __init__(self, until: float, seconds: float) -> None:
        """
        Args:
            until: end time by `time.monotonic`, which the processes of a machine share.
            seconds: longest training time; the run stops after it, even before `until`.
        """
        self.until, self.seconds = until, seconds
        self.marks: list[tuple[int, float]] = []
        self.epoch_steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self.until = min(self.until, time.monotonic() + self.seconds)
        self.epoch_steps = pl_module.steps // (trainer.max_epochs or 1)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Record the time after each block of steps. `epoch_seconds` skips the first block, which loads libraries."""
        self.marks.append((trainer.global_step, time.monotonic()))
        if self.marks[-1][1] >= self.until and len(self.marks) > 2:
            raise TimeIsOver

    def epoch_seconds(self) -> float | None:
        """Return the training time of an epoch, in seconds; None after too few steps."""
        if len(self.marks) < 2:
            return None
        (before, began), (after, ended) = self.marks[0], self.marks[-1]
        return (ended - began) / (after - before) * self.epoch_steps


def carry_out(config: dict[str, Any], until: float, seconds: float) -> Timed:
    """Carry out a run and return its outcome: done, diverged, stopped or failed. A process may call this repeatedly.

    Args:
        config: a composed config as plain values.
        until, seconds: see `Clock`.
    """
    folder, clock = Path(config["root"], "runs", identity.folder(resolve(config))), Clock(until, seconds)
    outcome = Timed(folder.name, "stopped", epochs=config["epochs"])
    with contextlib.suppress(TimeIsOver):
        if time.monotonic() < until:
            try:
                outcome = replace(outcome, status=run(config, folder, callbacks=[clock]).status)
            except Exception as error:
                return replace(outcome, status="failed", error=cli.explain(error) or repr(error))
    return replace(outcome, epoch_seconds=clock.epoch_seconds())


class Workers:
    """Carries out sweeps in place of a Hydra launcher; its processes live on from sweep to sweep."""

    hydra_context: Any  # set by the sweeper

    def __init__(self, size: int, pool: ProcessPoolExecutor | None) -> None:
        """
        Args:
            size: number of runs at once.
            pool: has `size` processes; None uses the current process.
        """
        self.size, self.map = size, pool.map if pool else map

    def sweep(self, figure: str, overrides: Sequence[str], until: float, share: float = math.inf) -> list[Timed]:
        """Carry out the unfinished runs of a figure, the longest first.

        Args:
            figure: such as fig8/gpu.
            overrides: overrides; they win over the figure's own grid.
            until: end time of all runs, by `time.monotonic`.
            share: of the time until then, for the steps of all runs together.

        Returns:
            The outcome of each of these runs.

        Raises:
            SettingError: a setting is wrong, or runs failed.
        """
        overrides = [f"figure={figure}", *overrides]
        parsed = OverridesParser.create().parse_overrides(overrides)
        single = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
        self.until, self.share = until, share
        with initialize_config_dir(cli.CONF, version_base="1.3"):
            self.config = compose("train", single, return_hydra_config=True)
            sweeper = instantiate(self.config.hydra.sweeper)
            sweeper.config, sweeper.launcher = self.config, self
            sweeper.hydra_context = HydraContext(GlobalHydra.instance().config_loader(), None)  # type: ignore[arg-type]
            sweeper.typed = ["-m", *overrides]
            return [done.return_value for batch in sweeper.sweep(overrides) for done in batch]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Carry out jobs; the sweeper calls this."""
        composed = (self.hydra_context.config_loader.load_sweep_config(self.config, [*job]) for job in job_overrides)
        configs = [naming.plain(config, *(str(key) for key in config if key != "hydra")) for config in composed]
        seconds = self.share * (self.until - time.monotonic()) * self.size / len(configs)
        done = self.map(carry_out, configs, itertools.repeat(self.until), itertools.repeat(seconds))
        return [JobReturn(_return_value=one, status=JobStatus.COMPLETED) for one in done]


def images(workers: Workers, overrides: Sequence[str], root: Path, until: float) -> None:
    """Carry out the first part, figure 8.

    Raises:
        SettingError: a setting is wrong, runs failed, or there is no time for an epoch of each.
    """
    epochs = plan(workers, overrides, root, until)
    workers.sweep("fig8/gpu", [*overrides, f"epochs={epochs}"], until)


def mlp(workers: Workers, overrides: Sequence[str], root: Path, until: float) -> None:
    """Carry out the second part, figure 7, seed by seed, as long as the time of the last seed is still left.

    Raises:
        SettingError: a setting is wrong, or runs failed.
    """
    begun = 1
    with contextlib.suppress(SettingError):  # there is no earlier sweep
        begun = len({member.axes[sweeps.SEED] for member in sweeps.read(root, "fig7", _scale(overrides)).members})
    for seeds in range(begun, SEEDS + 1):
        began = time.monotonic()
        workers.sweep("fig7/gpu", [*overrides, f"seed=range({seeds})"], until)
        if 2 * time.monotonic() - began > until:
            return


def plan(workers: Workers, overrides: Sequence[str], root: Path, until: float) -> int:
    """Return the epochs of each run of the first part, from an earlier plan or from a warm-up of all runs now.

    Raises:
        SettingError: the earlier plan has other settings, or there is no time for an epoch of each.
    """
    settings = [word for word in overrides if not word.startswith(("root=", "data_dir="))]
    path = root / "fig8" / _scale(overrides) / PLAN
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["settings"] != settings:
            raise SettingError(
                f"{path} is the plan for {' '.join(kept['settings'])}, and wanted is {' '.join(settings)}: give the "
                "same options, or another --root."
            )
        return int(kept["epochs"])
    with tempfile.TemporaryDirectory() as place:
        outcomes = workers.sweep("fig8/gpu", [*overrides, f"root={place}"], until, WARM_UP)
    taken = {one.folder: one.epoch_seconds for one in outcomes if one.epoch_seconds is not None}
    left = until - time.monotonic()
    epoch = makespan([*taken.values()], workers.size)
    if len(taken) < len(outcomes) or epoch > FILL * left:
        raise SettingError(
            f"{max(left, 0):.0f} s are left after the warm-up, too few for an epoch of each run: raise --minutes."
        )
    epochs: int = min(int(FILL * left / epoch), outcomes[0].epochs)
    found = {
        "epochs": epochs,
        "figure_epochs": outcomes[0].epochs,
        "planned_seconds": round(epochs * epoch, 1),
        "seconds_left": round(left, 1),
        "at_once": workers.size,
        "epoch_seconds": {folder: round(seconds, 3) for folder, seconds in taken.items()},
        "settings": settings,
    }
    files.replace_text(path, json.dumps(found, indent=1) + "\n")
    return epochs


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Return the total time of runs of these `seconds` on `workers` workers, if the longest starts first."""
    ends = [0.0] * workers
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


@contextlib.contextmanager
def _workers(size: int) -> Iterator[Workers]:
    if size == 1:
        yield Workers(1, None)
        return
    with ProcessPoolExecutor(size, multiprocessing.get_context("spawn")) as pool:
        try:
            yield Workers(size, pool)
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():  # they would finish their runs first
                process.kill()
            raise


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser("python -m samgap.gpu_evidence", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "arguments", nargs="*", metavar="WORD", help="fig8 or fig7 (default: both), or an override, key=value"
    )
    parser.add_argument("--minutes", type=float, default=10, help="after which everything stops (default: 10)")
    parser.add_argument("--images", help="the folder with train/<class>/ and test/<class>/ for fig8")
    parser.add_argument("--mnist", help="the folder where MNIST/raw/ lies or is downloaded to (default: data)")
    parser.add_argument("--precision", choices=PRECISIONS, help="of fig8 (default: tf32; of a rehearsal 32-true)")
    parser.add_argument("--at-once", type=int, default=min(AT_ONCE, len(os.sched_getaffinity(0))),
                        help=f"runs at once, each a process (default: one a core, up to {AT_ONCE})")  # fmt: skip
    parser.add_argument("--root", default="multirun", help="where results go (default: multirun)")
    parser.add_argument("--commit", help="of these sources, where they came without git")
    parser.add_argument("--rehearse", action="store_true", help="the same on the CPU, tiny: the numbers mean nothing")
    given = parser.parse_args(arguments)
    typed = [word for word in given.arguments if "=" in word]
    named = [word for word in given.arguments if "=" not in word]
    if wrong := [word for word in named if word not in PARTS]:
        parser.error(f"a part is one of {', '.join(PARTS)}, got {wrong[0]}")
    parts = [part for part in PARTS if part in (named or PARTS)]
    if given.at_once < 1 or not 0 < given.minutes < math.inf:
        parser.error("--at-once must be a whole number from 1, and --minutes a number above 0")
    if given.commit:
        os.environ[provenance.COMMIT] = given.commit
    naming.register()
    began, root = time.monotonic(), Path(given.root)
    try:
        with cli.sentences():
            cli.refuse(typed)
            if not given.rehearse and not torch.cuda.is_available():
                raise SettingError(
                    "Evidence wants a CUDA device and torch finds none here: go to a machine with a GPU, or see by "
                    "--rehearse that everything runs."
                )
            if "fig8" in parts and not (given.rehearse or given.images):
                raise SettingError("fig8 wants images: give --images a folder of train/<class>/ and test/<class>/.")
            problems = []
            for part in parts:
                share = 1 if part == parts[-1] else FIRST
                try:
                    with _workers(given.at_once) as workers:
                        overrides = [*_overrides(part, given), *typed]
                        {"fig8": images, "fig7": mlp}[part](
                            workers, overrides, root, began + 60 * share * given.minutes
                        )
                except SettingError as error:  # the other part does not depend on it
                    problems.append(f"{part}: {error}")
            if problems:
                raise SettingError(" ".join(problems))
    except KeyboardInterrupt:
        print("samgap: Stopped. The same command goes on where it was.", file=sys.stderr)
        return 130
    scale = "rehearsal" if given.rehearse else "gpu"
    print("\n".join(f"python -m samgap.draw figure={part}/gpu scale={scale} root={given.root}" for part in parts))
    return 0


def _overrides(part: str, given: argparse.Namespace) -> list[str]:
    """Return the overrides of a part."""
    overrides, folder = [f"root={_quoted(given.root)}"], given.images if part == "fig8" else given.mnist
    if folder:
        overrides.append(f"data_dir={_quoted(folder)}")
    if part == "fig8":
        overrides.append(f"precision={given.precision or ('32-true' if given.rehearse else 'tf32')}")
    if given.rehearse:
        overrides += [*TINY, f"model.width={'2,4' if part == 'fig8' else '0.1,0.2'}"]
        overrides += [] if folder else ["data=digits", "data.name=digits"]
    return overrides


def _scale(overrides: Sequence[str]) -> str:
    return next((word.removeprefix("scale=") for word in overrides if word.startswith("scale=")), "gpu")


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "\\'") + "'"


if __name__ == "__main__":
    sys.exit(main())
