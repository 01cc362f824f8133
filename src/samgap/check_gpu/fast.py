"""Speed of the device: first its limits (ceilings), then steps of the figures' nets, each inside a whole run."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from statistics import median

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from samgap.check_gpu.bed import Bed, Net, step_speed
from samgap.check_gpu.rows import Speed, speed
from samgap.check_gpu.stopwatch import step_seconds, timed
from samgap.training.numerics import numerics

RHO = 0.1
DTYPES = {"32-true": torch.float32, "tf32": torch.float32, "bf16-mixed": torch.bfloat16}


def ceilings(bed: Bed) -> Iterator[Speed]:
    """Time the fastest product of square matrices in each precision, and a copy on the device; both limit any step."""
    sizes = (128,) if bed.rehearsal else (4096, 8192, 16384)
    memory = torch.cuda.get_device_properties(bed.device).total_memory if bed.device.type == "cuda" else 2**30
    for precision in bed.precisions:
        rows = []
        for size in sizes[: 2 if precision == "32-true" else None]:
            if 12 * size**2 > memory / 4:
                continue
            draw = torch.Generator(bed.device).manual_seed(size)  # random numbers, since products of zeros are faster
            a, b = (torch.randn(size, size, generator=draw, device=bed.device).to(DTYPES[precision]) for _ in range(2))
            out = torch.empty_like(a)
            with numerics(precision):
                taken = timed(lambda: torch.mm(a, b, out=out), bed.wait, 0.01 if bed.rehearsal else 0.4)  # noqa: B023
            rate = 2 * size**3 / median(taken)
            rows.append(speed(f"product of {size:,} by {size:,}", precision, taken, rate=rate))
        best = max(rows, key=lambda row: row.rate or 0)
        bed.ceilings[precision] = best.rate or 0
        yield best
    source = torch.ones(2**16 if bed.rehearsal else min(2**30, memory // 8), dtype=torch.uint8, device=bed.device)
    target = torch.empty_like(source)
    taken = timed(lambda: target.copy_(source), bed.wait, 0.01 if bed.rehearsal else 0.4)
    what = f"copy of {len(source) / 2**20:g} MiB, read and written"
    yield speed(what, "bytes", taken, rate=2 * len(source) / median(taken), unit="B")


def steps(bed: Bed, nets: tuple[Net, ...], tiny: Net) -> Iterator[Speed]:
    """Time the SGD step and the SAM step of each net in each precision; a rehearsal uses only `tiny`."""
    chosen = (tiny,) if bed.rehearsal else nets
    for (net, precision, rho), seconds in bed.each([*product(chosen, bed.precisions, (RHO, 0.0))]):
        row = step_speed(bed, net, rho, precision, step_seconds(bed, bed.endless(net, rho, precision), seconds))
        bed.steps[net.model, net.width, rho, precision] = row
        yield row


def mlp(bed: Bed) -> Iterator[Speed]:
    """Time figure 7's nets, from the smallest to ten times the published one."""
    yield from steps(bed, tuple(Net("mlp", p, 28) for p in (0.1, 1, 10)), Net("mlp", 0.1, 28, 8))


def resnet18(bed: Bed) -> Iterator[Speed]:
    """Time figure 8's nets."""
    yield from steps(bed, tuple(Net("resnet18", f, 32) for f in (4, 16, 64, 128)), Net("resnet18", 2, 8, 8))


def resnet50(bed: Bed) -> Iterator[Speed]:
    """Time figure 9's net on images in memory, without reading files."""
    yield from steps(bed, (Net("resnet50", 64, 224),), Net("resnet50", 2, 32, 8))


class ChannelsLast(Callback):
    """Converts the net to the memory format channels_last, which its layers propagate to activations."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Called when the net is on its device."""
        pl_module.to(memory_format=torch.channels_last)


KERNELS: dict[str, tuple[str, tuple[str, ...], tuple[Callback, ...]]] = {
    # choice -> (choice that it is compared with, overrides, callbacks)
    "deterministic=warn": ("", ("trainer.deterministic=warn",), ()),
    "deterministic=false": ("deterministic=warn", ("trainer.deterministic=false",), ()),
    "cuDNN's search": ("deterministic=false", ("trainer.deterministic=false", "trainer.benchmark=true"), ()),
    "channels_last": ("deterministic=false", ("trainer.deterministic=false",), (ChannelsLast(),)),
}


def kernels(bed: Bed) -> Iterator[Speed]:
    """Time the effect of each choice of kernels and memory format on SAM's step of a ResNet."""
    # A rehearsal needs 16 filters: with fewer, oneDNN's channels-last convolutions can write outside their memory.
    net = Net("resnet18", 16, 8, 8) if bed.rehearsal else Net("resnet18", 64, 32)
    precisions = bed.precisions[:1] if bed.rehearsal else bed.precisions[::-1]
    medians: dict[tuple[str, str], float] = {}
    for (precision, choice), seconds in bed.each([*product(precisions, KERNELS)]):
        against, overrides, callbacks = KERNELS[choice]
        taken = step_seconds(bed, bed.endless(net, RHO, precision, *overrides), seconds, *callbacks)
        row = step_speed(bed, net, RHO, precision, taken, what=f", {choice}")
        medians[precision, choice] = row.seconds
        other = medians.get((precision, against))
        yield replace(row, case={}, against=against, ratio=row.seconds / other if other else None)
