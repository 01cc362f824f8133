"""A rough estimate of a run's duration, to start the longest runs first and to estimate the remaining time."""

import functools
import json
import math

import torch
from torch.utils.flop_counter import FlopCounterMode

from samgap.targets import call, locate
from samgap.training.machine import COMPILED_FROM
from samgap.training.plan import RunPlan

# For one CPU thread: fixed seconds per pass, and operations per second in matrix products and in convolutions, of an
# eager and of a compiled step. Only the ratios between the runs of a sweep matter.
EAGER, COMPILED = (2e-3, 5e10, 5e10), (1e-4, 2e11, 5e10)
UNKNOWN_SIZE = 50_000  # training images, assumed if data.train_size is null


def cost(plan: RunPlan) -> float:
    """Estimate a run's seconds on one CPU thread, up to a factor that is about the same for all runs of a sweep."""
    settings = plan.settings
    images = settings["data"].get("train_size") or UNKNOWN_SIZE
    batch = min(settings["batch_size"], images)
    steps = settings["epochs"] * plan.epoch_steps(images)
    long = steps >= COMPILED_FROM and plan.machine.accelerator != "gpu" and plan.machine.stepper == "auto"
    pass_seconds, *rates = COMPILED if long or plan.machine.stepper == "compiled" else EAGER
    work = sum(3 * batch * count / rate for count, rate in zip(operations(*plan.net), rates, strict=True))
    ascent = settings["ascent"]
    passes = 1 + (1 / (ascent.get("interval") or 1) if ascent.get("rho") else 0)
    parts = math.ceil(batch / plan.layout.forward)
    return float(steps * passes * (parts * pass_seconds + work))


def flops(code: str, width: float, shape: tuple[int, int, int], classes: int, own: str = "{}") -> int:
    """Return the number of floating-point operations in a forward pass of one image; arguments as for `operations`."""
    return sum(operations(code, width, shape, classes, own))


@functools.cache
def operations(code: str, width: float, shape: tuple[int, int, int], classes: int, own: str = "{}") -> tuple[int, int]:
    """Return the floating-point operations of matrix products and of convolutions in a forward pass of one image.

    The arguments are those of `RunPlan.net`.
    """
    with torch.device("meta"):
        net = call("model", locate(code, "model.code"), shape, classes, width=width, **json.loads(own))
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            net.eval()(torch.empty(1, *shape))
    convolutions = int(counter.get_flop_counts()["Global"].get(torch.ops.aten.convolution, 0))
    return int(counter.get_total_flops()) - convolutions, convolutions
