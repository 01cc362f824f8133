"""Steps as CUDA graphs, of single and of stacked runs: results, and speed against the goals of docs/gpu.md."""

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer

from samgap.check_gpu.bed import Bed, Net, step_speed
from samgap.check_gpu.fast import RHO
from samgap.check_gpu.right import STEPS, far, trained
from samgap.check_gpu.rows import Check, Speed
from samgap.check_gpu.stopwatch import WARM, Enough, Stopwatch
from samgap.training import stacked
from samgap.training.plan import RunPlan
from samgap.training.run import run

ROW = 18  # runs of one width in figure 7: six radii, three seeds
FIGURE7 = 46_900  # steps of a run of figure 7
SLOWER = ".*(runs slower|not stacked)"  # warnings of a step that is no graph
SAME = 1e-8  # of weights in float64; Inductor divides the input, which is float32, less precisely than torch


class EpochWatch(Stopwatch):
    """A stopwatch whose samples are epochs, in which all runs of a stack take steps; the first run measures."""

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
        """Do nothing: samples end with epochs."""


def timed_epochs(bed: Bed, configs: Sequence[dict[str, Any]], seconds: float) -> list[float]:
    """Return samples of the seconds of a step of one run, or of the common step of a stack of runs."""
    watch = EpochWatch(bed, seconds)
    with tempfile.TemporaryDirectory(dir=bed.folder) as folder, warnings.catch_warnings():
        warnings.filterwarnings("error", message=SLOWER)
        calls = [partial(run, config, Path(folder, str(n)), callbacks=[watch]) for n, config in enumerate(configs)]
        with contextlib.suppress(Enough):
            outcomes(calls, configs[0], bed.rehearsal)
    return watch.taken[WARM:]


def graph_numbers(bed: Bed) -> Iterator[Check]:
    """Compare weights after SAM steps as a graph, of one run and of two stacked runs, with those of eager steps."""
    mlp, resnet = Net("mlp", 0.1 if bed.rehearsal else 1, 28, 32), Net("resnet18", 4, 16, 32)
    compiled = "trainer.stepper=" + ("eager" if bed.rehearsal else "compiled")
    cases = [(mlp, 1, compiled), (mlp, 2, compiled)]
    cases += [] if bed.rehearsal else [(resnet, 2, "trainer.stepper=eager")]  # a stack that Inductor does not compile
    for net, runs, stepper in cases:
        point = (*net.overrides(STEPS // 2 * net.batch_size), "epochs=2", f"ascent.rho={RHO:g}", "precision=64-true")
        what = f"{STEPS} SAM steps of {net.label}, {f'{runs} runs stacked' if runs > 1 else 'as a graph'}"
        eager = [
            trained(bed, f"{what}, eager, seed {seed}", *point, "trainer.stepper=eager", f"seed={seed}")[0]
            for seed in range(runs)
        ]
        calls = [partial(trained, bed, f"{what}, {seed}", *point, stepper, f"seed={seed}") for seed in range(runs)]
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=SLOWER)
            graphs = outcomes(calls, bed.config(*point, stepper), bed.rehearsal)
        off = max(far(weights, expected) for (weights, _), expected in zip(graphs, eager, strict=True))
        yield Check(f"{what}, 64-true", f"the eager steps' to {SAME:g}", f"{off:.2g} off", off <= SAME)


def outcomes(calls: Sequence[Callable[[], Any]], config: dict[str, Any], rehearsal: bool) -> list[Any]:
    """Carry out one run as a graph, or several as a stack, and return their results; a rehearsal stacks a single one.

    Raises:
        BaseException: that of a run; `Enough` only if no run raised another.
    """
    if len(calls) == 1 and not rehearsal:
        return [calls[0]()]
    results = stacked.carry_out(calls, RunPlan.of(config))
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        raise next((error for error in errors if not isinstance(error, Enough)), errors[0])
    return results


def graphed(bed: Bed, net: Net, rho: float, precision: str, runs: int, seconds: float) -> Speed:
    """Time a step as a graph, of a single run or of stacked runs; seconds are divided by the number of runs."""
    stepper = "eager" if bed.rehearsal else "compiled"
    configs = [
        bed.endless(net, rho and rho * (1 + seed / ROW), precision, f"trainer.stepper={stepper}", f"seed={seed}")
        for seed in range(runs)
    ]
    taken = timed_epochs(bed, configs, seconds)
    what = ", as a graph" if runs == 1 else f", {runs} runs stacked"
    row = step_speed(bed, net, rho, precision, [sample / runs for sample in taken], what=what)
    return replace(row, case={}, share=None if runs > 1 else row.share)


def graphs(bed: Bed) -> Iterator[Speed]:
    """Time the SAM step of the MLP as a graph, in single runs and in stacks with all runs of a width of figure 7."""
    small, middle, large = (Net("mlp", 0.1, 28, 8),) * 3 if bed.rehearsal else (Net("mlp", p, 28) for p in (0.1, 1, 10))
    row = 2 if bed.rehearsal else ROW
    cases = [(small, 1), (middle, 1), (middle, row), (large, row)]
    rows: list[Speed] = []
    for (net, runs), seconds in bed.each(cases):
        speed = graphed(bed, net, RHO, "32-true", runs, seconds)
        key = net.model, net.width, RHO, "32-true"
        eager = bed.steps.get(key)
        if len(rows) == 2:
            speed = replace(speed, against="one run as a graph", ratio=speed.seconds / rows[1].seconds, goal=1 / 8)
        elif eager:
            speed = replace(speed, against="the eager step", ratio=speed.seconds / eager.seconds)
        if runs == 1:
            bed.steps[key] = speed  # JAX's step is compared with it
        rows.append(replace(speed, limit=1e-4) if not rows else speed)
        yield rows[-1]
    # Upper limit: the three widths up to p = 1 are counted as p = 1, and the two larger ones as p = 10.
    total = FIGURE7 * ROW * (3 * rows[2].seconds + 2 * rows[3].seconds)
    yield Speed("figure 7 at paper scale, projected, at most", "32-true", total, 1, 0.0, limit=600.0)


def graphs_resnet18(bed: Bed) -> Iterator[Speed]:
    """Time the SAM step and the SGD step of ResNet-18 as a graph; compiling each takes about a minute."""
    net = Net("mlp", 0.1, 28, 8) if bed.rehearsal else Net("resnet18", 64, 32)  # tracing a ResNet takes long
    names = ("32-true", "32-true") if bed.rehearsal else ("tf32", "bf16-mixed")
    rows: list[Speed] = []
    for (rho, precision), seconds in bed.each([(0.0, names[0]), (RHO, names[0]), (RHO, names[1])]):
        rows.append(graphed(bed, net, rho, precision, 1, seconds))
        against = {1: ("SGD's step", 2.05), 2: (names[0], 0.7)}.get(len(rows) - 1)
        if against:
            ratio = rows[-1].seconds / rows[-2].seconds
            rows[-1] = replace(rows[-1], against=against[0], ratio=ratio, goal=against[1])
        yield rows[-1]
