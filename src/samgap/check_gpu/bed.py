"""Shared by the parts: their device and time limit, and the nets that they use."""

import contextlib
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from samgap import cli
from samgap.bench import images
from samgap.check_gpu.rows import Speed, speed
from samgap.errors import SettingError, line
from samgap.training.cost import flops

BATCH = 128
PRECISIONS = ("32-true", "tf32", "bf16-mixed")


class LeftOut(Exception):
    """Ends a part without failure; the message is the reason."""


@dataclass(frozen=True)
class Net:
    """A net of the study, and its images."""

    model: str
    width: float
    size: int  # pixels per side
    batch_size: int = BATCH

    @property
    def label(self) -> str:
        """Its name in the table."""
        name = {"mlp": "MLP p", "resnet18": "ResNet-18 f", "resnet50": "ResNet-50 f"}[self.model]
        return f"{name} = {self.width:g}" + (f" at {self.size}" if self.model == "resnet50" else "")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return 1 if self.model == "mlp" else 3, self.size, self.size

    @property
    def classes(self) -> int:
        """The number of classes: 1000 for images of ImageNet's size, else 10."""
        return 1000 if self.size == 224 else 10

    def overrides(self, count: int) -> list[str]:
        """Return overrides for this net on `count` images of noise in memory, augmented like MNIST or CIFAR-10."""
        channels = self.shape[0]
        return [
            f"data={'mnist' if self.model == 'mlp' else 'cifar10'}", f"data.code={images.__name__}.noise",
            f"data.channels={channels}", f"data.size={self.size}", f"data.classes={self.classes}", "data.holdout=0",
            f"+data.images={count}", f"+data.shape=[{','.join(map(str, self.shape))}]", f"+data.labels={self.classes}",
            f"model={self.model}", f"model.width={self.width:g}", f"batch_size={self.batch_size}", "optimizer.lr=0.01",
        ]  # fmt: skip

    def operations(self, rho: float) -> int:
        """Return the floating-point operations of a step; a backward pass counts as two forward passes."""
        target = {"mlp": "mlp.MLP", "resnet18": "resnet18.ResNet18", "resnet50": "resnet50.ResNet50"}[self.model]
        forward = flops(f"samgap.models.{target}", self.width, self.shape, self.classes)
        return forward * 3 * self.batch_size * (2 if rho else 1)


@dataclass
class Bed:
    """The device and time limit of the parts, and results of one part that others use."""

    device: torch.device
    folder: Path  # for runs; temporary
    until: float = 0.0  # time limit of the running part, by `time.monotonic`
    ceilings: dict[str, float] = field(default_factory=dict)  # precision -> operations per second of a matrix product
    steps: dict[tuple[str, float, float, str], Speed] = field(default_factory=dict)  # (model, width, rho, precision)

    @property
    def rehearsal(self) -> bool:
        """Whether the parts run on the CPU, with tiny sizes and meaningless times."""
        return self.device.type == "cpu"

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that the device supports; a CPU has no TF32."""
        return tuple(p for p in PRECISIONS if not (self.rehearsal and p == "tf32"))

    @property
    def left(self) -> float:
        """Seconds left for the running part."""
        return self.until - time.monotonic()

    def wait(self) -> None:
        """Wait until the device has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def config(self, *overrides: str, trainer: str = "") -> dict[str, Any]:
        """Return the config of a run on this device, or with another trainer."""
        trainer = trainer or ("cpu" if self.rehearsal else "gpu")
        with initialize_config_dir(cli.CONF, version_base="1.3"):
            config = compose("train", [f"trainer={trainer}", f"root={self.folder}", *overrides])
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]

    def endless(self, net: Net, rho: float, precision: str, *overrides: str) -> dict[str, Any]:
        """Return the config of a run on images of noise that does not end by itself; a callback must end it."""
        count = 64 if self.rehearsal else 1024 if net.model == "resnet50" else 20 * 1024
        eager = ["trainer.stepper=eager"] * self.rehearsal  # a CPU would compile the step for this many epochs
        return self.config(*net.overrides(count), "epochs=100000", "eval_every=100000", *eager, f"ascent.rho={rho:g}",
                           f"precision={precision}", *overrides)  # fmt: skip

    def each(self, cases: Sequence[Any]) -> Iterator[tuple[Any, float]]:
        """Yield (case, seconds for its measurement) while there is time left.

        Raises:
            LeftOut: there was not enough time for all cases.
        """
        for number, case in enumerate(cases):
            if self.left <= 0:
                raise LeftOut(f"{number} of {len(cases)} cases, then the time was over")
            # A run takes about 0.4 seconds in addition to its measurement.
            yield case, 0.02 if self.rehearsal else min(1.0, max(0.2, self.left / (len(cases) - number) - 0.4))


@contextlib.contextmanager
def optional(what: str) -> Iterator[None]:
    """Skip a part by `LeftOut` if third-party software that it needs does not run, which is not a fault of samgap."""
    try:
        yield
    except (SettingError, OSError, subprocess.SubprocessError) as error:
        raise LeftOut(f"{what} does not run here ({line(error).rstrip('.')})") from error


def step_speed(bed: Bed, net: Net, rho: float, precision: str, taken: list[float], what: str = "") -> Speed:
    """Make the row of a step from samples of its seconds, with its rate as a share of the matrix product's."""
    seconds = statistics.median(taken)
    rate = net.operations(rho) / seconds
    case = {"model": net.model, "width": net.width, "rho": rho, "batch_size": net.batch_size}
    share = rate / bed.ceilings[precision] if precision in bed.ceilings else None
    name = f"{'SAM' if rho else 'SGD'} step, {net.label}{what}"
    return speed(name, precision, taken, images=net.batch_size / seconds, rate=rate, share=share, case=case)
