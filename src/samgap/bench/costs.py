"""`python -m samgap.bench.costs`: the cost of each figure at paper scale on a GPU, computed from its config.

Steps and passes follow from the config, operations from the nets; a backward pass counts as two forward passes. The
cost of a pass is that of the newest check-gpu result that comes with samgap, or the guess below if there is none. The
table states which.
"""

import copy
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from samgap import cli, console, naming
from samgap.reference import card
from samgap.reference.card import Rates
from samgap.training.cost import flops
from samgap.training.plan import RunPlan
from samgap.training.settings import GROUPS, SCALARS

RATE = 15e12  # a guess: operations a second of training in float32 (TF32 off), of 60e12 and more in theory
PASS_SECONDS = 5e-3  # a guess: of a forward and backward pass that is too small to fill a GPU: launching its kernels
GUESSED = Rates(RATE, {"mlp": PASS_SECONDS, "resnet18": PASS_SECONDS})
IMAGES = {"mnist": 60_000, "cifar10": 50_000, "imagenet": 1_281_167, "fashion_mnist": 60_000, "factorization": 1_000}
HEAD = "| figure at paper scale | runs | steps of one | GPU hours | the longest run |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Cost:
    """The cost of one figure, in hours of one GPU."""

    figure: str
    runs: int
    steps: int  # of the longest run
    hours: float
    longest: float

    def text(self) -> str:
        """A row of the table."""
        return f"| `{self.figure}` | {self.runs} | {self.steps:,} | {_hours(self.hours)} | {_hours(self.longest)} |"


def known() -> Rates:
    """Measured rates, or guesses if no result comes with samgap."""
    found = card.newest()
    return (card.rates(found) if found else None) or GUESSED


def basis(at: Rates) -> str:
    """The basis of the hours, in a sentence."""
    passes = ", ".join(f"{1e3 * seconds:.2g} ms ({model})" for model, seconds in at.passes.items())
    numbers = f"{at.rate / 1e12:.3g} TFLOP/s in float32, and no pass below {passes}"
    return f"Measured on {at.card} ({at.made}): {numbers}." if at.card else f"Guesses, not measured: {numbers}."


def cost(figure: str, at: Rates = GUESSED) -> Cost:
    """The cost of all runs of a figure, including those that it shares with others.

    Args:
        figure: such as fig9/paper.
        at: what passes cost.
    """
    runs = {plan.identity: plan for plan in _grid(figure)}
    steps = [_steps(plan.settings) for plan in runs.values()]
    hours = [_seconds(plan, at) / 3600 for plan in runs.values()]
    return Cost(figure, len(runs), max(steps), sum(hours), max(hours))


def _grid(figure: str) -> Iterator[RunPlan]:
    """Every run; a swept group counts by its name, since its own keys cost nothing."""
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        composed = compose("train", [f"figure={figure}"], return_hydra_config=True)
    grid = [f"{key}={value}" for key, value in composed.hydra.sweeper.params.items()]
    skip = composed.hydra.sweeper.skip or {}
    base = naming.plain(composed, *GROUPS, *SCALARS, "trainer", "logger")
    axes = {
        o.get_key_element(): list(o.sweep_iterator()) if o.is_sweep_override() else [o.value()]
        for o in OverridesParser.create().parse_overrides(grid)
    }
    for point in itertools.product(*axes.values()):
        chosen = dict(zip(axes, point, strict=True))
        if skip and all(chosen[key] in values for key, values in skip.items()):
            continue
        config = copy.deepcopy(base)
        for key, value in chosen.items():
            group, _, name = (f"{key}.name" if key in GROUPS else key).rpartition(".")
            (config[group] if group else config)[name] = value
        yield RunPlan.of(config)


def _steps(settings: Mapping[str, Any]) -> int:
    images = settings["data"]["train_size"] or IMAGES[settings["data"]["name"]]
    return settings["epochs"] * math.ceil(images / settings["batch_size"])


def _seconds(plan: RunPlan, at: Rates) -> float:
    settings = plan.settings
    passes = _steps(settings) * (2 if settings["ascent"].get("rho") else 1)
    operations = 3 * settings["batch_size"] * flops(*plan.net)
    return passes * at.seconds(settings["model"]["name"], operations)


def _hours(value: float) -> str:
    return f"{value:,.0f} h" if value >= 10 else f"{value:.1f} h" if value >= 0.1 else "minutes"


def table(figures: list[str] | None = None) -> Iterator[str]:
    """The lines of the table of the given figures, by default of all with a paper scale."""
    yield HEAD
    for figure in figures or sorted(_figures(), key=_order):
        yield cost(figure, known()).text()


def _figures() -> Iterator[str]:
    for path in (Path(cli.CONF) / "figure").glob("*/paper*.yaml"):
        if not path.parent.is_symlink():  # another name for a figure
            yield f"{path.parent.name}/{path.stem}"


def _order(figure: str) -> tuple[int, str]:
    number = figure.partition("/")[0].removeprefix("fig")
    return (int(number) if number.isdigit() else 99, figure)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = console.parser("samgap.bench.costs", __doc__, "", "fig8/paper", "fig7/paper fig9/paper_official")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="such as fig8/paper (default: all at that scale)")
    given, known_figures = parser.parse_args(arguments), [*_figures()]
    console.refuse_unknown(parser, given.figures, known_figures)
    naming.register()
    print(f"{basis(known())}\n")
    for line in table(given.figures):
        print(line, flush=True)


if __name__ == "__main__":
    main()
