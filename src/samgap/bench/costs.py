"""`python -m samgap.bench.costs`: the cost of each figure at paper scale on a GPU, computed from its config.

Steps and passes follow from the config, operations from the nets; a backward pass counts as two forward passes. The
cost of a pass is that of the newest check-gpu result that comes with samgap; if there is none, it is a guess. The
table states which.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
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

RATE = 15e12  # a guess: operations per second of training in float32 without TF32; the peak of a GPU is 60e12 or more
PASS_SECONDS = 5e-3  # a guess: shortest forward and backward pass, the time of launching its kernels
GUESSED = Rates(RATE, {"mlp": PASS_SECONDS, "resnet18": PASS_SECONDS})
IMAGES = {"mnist": 60_000, "cifar10": 50_000, "imagenet": 1_281_167, "fashion_mnist": 60_000, "factorization": 1_000}
HEAD = "| figure at paper scale | runs | steps of one | GPU hours | the longest run |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Cost:
    """The cost of one figure, in hours of one GPU."""

    figure: str
    runs: int
    steps: int  # of the longest run
    hours: float  # of all runs
    longest: float  # hours of the longest run

    def text(self) -> str:
        """Return a row of the table."""
        return f"| `{self.figure}` | {self.runs} | {self.steps:,} | {_hours(self.hours)} | {_hours(self.longest)} |"


def known() -> Rates:
    """Return the measured rates, or guesses if no result comes with samgap."""
    result = card.newest()
    return (card.rates(result) if result else None) or GUESSED


def basis(rates: Rates) -> str:
    """Return a sentence on the rates from which the hours are computed."""
    passes = ", ".join(f"{1e3 * seconds:.2g} ms ({model})" for model, seconds in rates.passes.items())
    text = f"{rates.rate / 1e12:.3g} TFLOP/s in float32, and no pass below {passes}"
    return f"Measured on {rates.card} ({rates.made}): {text}." if rates.card else f"Guesses, not measured: {text}."


def cost(figure: str, rates: Rates = GUESSED) -> Cost:
    """Compute the cost of all runs of a figure, including those that it shares with others.

    Args:
        figure: figure and scale, such as fig9/paper.
        rates: cost of a pass.
    """
    runs = {plan.identity: plan for plan in _grid(figure)}
    steps = [_steps(plan.settings) for plan in runs.values()]
    hours = [_seconds(plan, rates) / 3600 for plan in runs.values()]
    return Cost(figure, len(runs), max(steps), sum(hours), max(hours))


def _grid(figure: str) -> Iterator[RunPlan]:
    """Yield the plan of each run. Of a swept group only the name is set, since its other keys do not affect costs."""
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        composed = compose("train", [f"figure={figure}"], return_hydra_config=True)
    grid = [f"{key}={value}" for key, value in composed.hydra.sweeper.params.items()]
    skip = composed.hydra.sweeper.skip or {}
    base = naming.plain(composed, *GROUPS, *SCALARS, "trainer", "logger")
    axes = {o.get_key_element(): _values(o) for o in OverridesParser.create().parse_overrides(grid)}
    for point in itertools.product(*axes.values()):
        chosen = dict(zip(axes, point, strict=True))
        if skip and all(chosen[key] in values for key, values in skip.items()):
            continue
        config = copy.deepcopy(base)
        for key, value in chosen.items():
            _put(config, f"{key}.name" if key in GROUPS else key, value)
        yield RunPlan.of(config)


def _values(override: Any) -> list[Any]:
    return list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    group, _, name = key.rpartition(".")
    (config[group] if group else config)[name] = value


def _steps(settings: Mapping[str, Any]) -> int:
    images = settings["data"]["train_size"] or IMAGES[settings["data"]["name"]]
    return settings["epochs"] * math.ceil(images / settings["batch_size"])


def _seconds(plan: RunPlan, rates: Rates) -> float:
    settings = plan.settings
    passes = _steps(settings) * (2 if settings["ascent"].get("rho") else 1)
    operations = 3 * settings["batch_size"] * flops(*plan.net)
    return passes * rates.seconds(settings["model"]["name"], operations)


def _hours(value: float) -> str:
    return f"{value:,.0f} h" if value >= 10 else f"{value:.1f} h" if value >= 0.1 else "minutes"


def table(figures: list[str] | None = None, say: Callable[[str], object] = lambda _: None) -> str:
    """Return the table of `figures`, by default of all at scale paper; `say` gets each row when it is ready."""
    lines, rates = [HEAD], known()
    for figure in figures or sorted(_figures(), key=_order):
        lines.append(cost(figure, rates).text())
        say(lines[-1])
    return "\n".join(lines) + "\n"


def _figures() -> Iterator[str]:
    for path in (Path(cli.CONF) / "figure").glob("*/paper*.yaml"):
        if not path.parent.is_symlink():  # fig5 is another name of fig4
            yield f"{path.parent.name}/{path.stem}"


def _order(figure: str) -> tuple[int, str]:
    number = figure.partition("/")[0].removeprefix("fig")
    return (int(number) if number.isdigit() else 99, figure)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = console.parser("samgap.bench.costs", __doc__, "", "fig8/paper", "fig7/paper fig9/paper_official")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="such as fig8/paper (default: all at that scale)")
    options = parser.parse_args(arguments)
    console.refuse_unknown(parser, options.figures, [*_figures()])
    naming.register()
    print(f"{basis(known())}\n\n{HEAD}")
    table(options.figures, say=lambda row: print(row, flush=True))


if __name__ == "__main__":
    console.script(main)
