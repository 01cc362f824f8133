"""The step as a CUDA graph, and rows of a grid as one program, against the goals of docs/gpu.md."""

import contextlib
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer

from samgap.check_gpu.bed import Bed, Net, step_speed
from samgap.check_gpu.fast import RHO
from samgap.check_gpu.rows import Speed
from samgap.check_gpu.stopwatch import WARM, Enough, Stopwatch
from samgap.training import stacked
from samgap.training.plan import RunPlan
from samgap.training.run import run

ROW = 18  # runs of a width in figure 7: six radii, three seeds
FIGURE7 = 46_900  # steps of a run of figure 7


class EpochWatch(Stopwatch):
    """The same with an epoch as sample, so with the turns of all runs of a stack: the first measures, and all end."""

    first: Any = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a sample and start the next."""
        task: Any = pl_module
        if self.over:
            raise Enough
        if self.first is None:
            self.first = task
            self._restart()
        elif task is self.first:
            self._sample(task.plan.epoch_steps(len(task.data.train)))

    def _after(self, full: bool) -> None:
        """A step ends no sample."""


def timed_epochs(bed: Bed, configs: Sequence[dict[str, Any]], seconds: float) -> list[float]:
    """Return samples of the seconds of a step: of one run, or of all runs of a stack at once."""
    watch = EpochWatch(bed, seconds)
    with tempfile.TemporaryDirectory(dir=bed.folder) as folder, warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(runs slower|not stacked)")
        calls = [partial(run, config, Path(folder, str(n)), callbacks=[watch]) for n, config in enumerate(configs)]
        if len(calls) == 1 and not bed.rehearsal:
            with contextlib.suppress(Enough):
                calls[0]()
        else:
            for error in stacked.carry_out(calls, RunPlan.of(configs[0])):
                if not isinstance(error, Enough):
                    raise error
    return watch.taken[WARM:]


def graphed(bed: Bed, net: Net, rho: float, precision: str, runs: int, seconds: float) -> Speed:
    """Time a step as a graph; of several runs, all of theirs together."""
    how = "eager" if bed.rehearsal else "compiled"
    configs = [
        bed.endless(net, rho and rho * (1 + seed / ROW), precision, f"trainer.stepper={how}", f"seed={seed}")
        for seed in range(runs)
    ]
    taken = timed_epochs(bed, configs, seconds)
    what = ", as a graph" if runs == 1 else f", {runs} runs stacked"
    row = step_speed(bed, net, rho, precision, [one / runs for one in taken], what=what)
    return replace(row, case={}, share=None if runs > 1 else row.share)


def graphs(bed: Bed) -> Iterator[Speed]:
    """Time SAM's step of the MLP as a graph and in stacks of a width of figure 7; seconds are of one run."""
    small, middle, large = (Net("mlp", 0.1, 28, 8),) * 3 if bed.rehearsal else (Net("mlp", p, 28) for p in (0.1, 1, 10))
    row = 2 if bed.rehearsal else ROW
    cases = [(small, 1), (middle, 1), (middle, row), (large, row)]
    found: list[Speed] = []
    for (net, runs), seconds in bed.each(cases):
        one = graphed(bed, net, RHO, "32-true", runs, seconds)
        key = net.model, net.width, RHO, "32-true"
        eager = bed.steps.get(key)
        if len(found) == 2:
            one = replace(one, against="one run as a graph", ratio=one.seconds / found[1].seconds, goal=1 / 8)
        elif eager:
            one = replace(one, against="the eager step", ratio=one.seconds / eager.seconds)
        if runs == 1:
            bed.steps[key] = one  # JAX's step is compared with it
        found.append(replace(one, limit=1e-4) if not found else one)
        yield found[-1]
    # Nets up to p = 1 take no longer than p = 1, and p = 4 no longer than p = 10.
    whole = FIGURE7 * ROW * (3 * found[2].seconds + 2 * found[3].seconds)
    yield Speed("figure 7 at paper scale, projected, at most", "32-true", whole, 1, 0.0, limit=600.0)


def graphs_resnet18(bed: Bed) -> Iterator[Speed]:
    """Time SAM's and SGD's step of ResNet-18 as a graph; compiling each takes about a minute."""
    net = Net("mlp", 0.1, 28, 8) if bed.rehearsal else Net("resnet18", 64, 32)  # a small one, since tracing takes long
    names = ("32-true", "32-true") if bed.rehearsal else ("tf32", "bf16-mixed")
    found: list[Speed] = []
    for (rho, precision), seconds in bed.each([(0.0, names[0]), (RHO, names[0]), (RHO, names[1])]):
        found.append(graphed(bed, net, rho, precision, 1, seconds))
        against = {1: ("SGD's step", 2.05), 2: (names[0], 0.7)}.get(len(found) - 1)
        if against:
            ratio = found[-1].seconds / found[-2].seconds
            found[-1] = replace(found[-1], against=against[0], ratio=ratio, goal=against[1])
        yield found[-1]
