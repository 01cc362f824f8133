"""A rough price of a run, to start the longest first and to say how much time is left."""

import functools
import math

import torch
from torch.utils.flop_counter import FlopCounterMode

from samgap.targets import locate
from samgap.training.plan import RunPlan

# Seconds of one CPU thread: what a pass costs whatever its size, and operations a second. Only ratios matter.
PASS_SECONDS, RATE = 2e-3, 5e10
UNKNOWN_SIZE = 50_000  # images, where a run trains on all there are


def cost(plan: RunPlan) -> float:
    """Seconds of one CPU thread, to a factor that is about the same for all runs of a sweep."""
    settings = plan.settings
    images = settings["data"].get("train_size") or UNKNOWN_SIZE
    batch = min(settings["batch_size"], images)
    operations = 3 * batch * flops(*plan.net)
    ascent = settings["ascent"]
    passes = 1 + (1 / (ascent.get("interval") or 1) if ascent.get("rho") else 0)
    parts = math.ceil(batch / plan.layout.forward)
    return float(settings["epochs"] * plan.epoch_steps(images) * passes * (parts * PASS_SECONDS + operations / RATE))


@functools.cache
def flops(code: str, width: float, shape: tuple[int, int, int], classes: int) -> int:
    """Floating-point operations of one forward pass of one image."""
    with torch.device("meta"):
        net = locate(code, "model.code")(shape, classes, width=width)
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            net.eval()(torch.empty(1, *shape))
    return int(counter.get_total_flops())
