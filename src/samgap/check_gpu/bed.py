"""What the parts have in common: where and how long they run, their rows, and a step timed inside of a whole run."""

import contextlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from samgap import cli
from samgap.bench import images
from samgap.errors import SettingError, line
from samgap.training.cost import flops
from samgap.training.run import run

WARM = 2  # samples that do not count: libraries choose kernels in them
BATCH = 128
PRECISIONS = ("32-true", "tf32", "bf16-mixed")


class Enough(Exception):
    """Ends a run from inside when everything is known that was wanted of it."""


class LeftOut(Exception):
    """Ends a part before its end, which is no failure; says why."""


@dataclass(frozen=True)
class Check:
    """Something that must hold."""

    what: str
    wanted: str
    came: str
    holds: bool

    def text(self) -> str:
        """A line of the table."""
        return f"{'holds' if self.holds else 'WRONG':>9}  {self.what}: {self.came} (wanted: {self.wanted})"


@dataclass(frozen=True)
class Speed:
    """Something that was timed."""

    what: str
    precision: str
    seconds: float  # median
    n: int  # samples
    spread: float  # from the first to the third quartile, as a share of the median
    images: float | None = None  # a second
    rate: float | None = None  # of `unit` a second
    unit: str = "FLOP"
    share: float | None = None  # of the rate of the largest product in this precision
    against: str = ""
    ratio: float | None = None  # of the seconds to those of `against`
    case: dict[str, Any] = field(default_factory=dict)  # model, width, rho, batch_size of a step

    def text(self) -> str:
        """A line of the table."""
        cells = [f"{1e3 * self.seconds:.3f} ms".rjust(14), f"{self.what}, {self.precision}"]
        cells += [f"{self.images:,.0f} images/s"] if self.images else []
        cells += [f"{self.rate / 1e12:.3g} T{self.unit}/s"] if self.rate else []
        cells += [f"{100 * self.share:.1f} % of the product"] if self.share else []
        cells += [f"{self.ratio:.3f} of {self.against}"] if self.ratio else []
        return "  ".join(cells)


Row = Check | Speed


@dataclass(frozen=True)
class Net:
    """A net of the study and what it sees."""

    model: str
    width: float
    size: int  # pixels a side
    batch_size: int = BATCH

    @property
    def label(self) -> str:
        """As the table names it."""
        name = {"mlp": "MLP p", "resnet18": "ResNet-18 f", "resnet50": "ResNet-50 f"}[self.model]
        return f"{name} = {self.width:g}" + (f" at {self.size}" if self.model == "resnet50" else "")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return 1 if self.model == "mlp" else 3, self.size, self.size

    @property
    def classes(self) -> int:
        """ImageNet's where images have its size."""
        return 1000 if self.size == 224 else 10

    def overrides(self, count: int) -> list[str]:
        """The net and `count` images of noise, in memory, augmented as MNIST's or CIFAR-10's are."""
        channels = self.shape[0]
        return [
            f"data={'mnist' if self.model == 'mlp' else 'cifar10'}", f"data.code={images.__name__}.noise",
            f"data.channels={channels}", f"data.size={self.size}", f"data.classes={self.classes}", "data.holdout=0",
            f"+data.images={count}", f"+data.shape=[{','.join(map(str, self.shape))}]", f"+data.labels={self.classes}",
            f"model={self.model}", f"model.width={self.width:g}", f"batch_size={self.batch_size}", "optimizer.lr=0.01",
        ]  # fmt: skip

    def operations(self, rho: float) -> int:
        """Floating-point operations of a step, backward as twice the forward."""
        target = {"mlp": "mlp.MLP", "resnet18": "resnet18.ResNet18", "resnet50": "resnet50.ResNet50"}[self.model]
        forward = flops(f"samgap.models.{target}", self.width, self.shape, self.classes)
        return forward * 3 * self.batch_size * (2 if rho else 1)


@dataclass
class Bed:
    """Where the parts run, and what one part found that another wants."""

    device: torch.device
    folder: Path  # for runs; nothing in it is kept
    until: float = 0.0  # when the part at work should be over, on the monotonic clock
    ceilings: dict[str, float] = field(default_factory=dict)  # precision -> operations a second of a product
    steps: dict[tuple[str, float, float, str], Speed] = field(default_factory=dict)  # (model, width, rho, precision)

    @property
    def rehearsal(self) -> bool:
        """Whether this is the CPU, where sizes are tiny and times mean nothing."""
        return self.device.type == "cpu"

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that the device has: no CPU knows TF32."""
        return tuple(p for p in PRECISIONS if not (self.rehearsal and p == "tf32"))

    @property
    def left(self) -> float:
        """Seconds of the part at work."""
        return self.until - time.monotonic()

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def config(self, *overrides: str, trainer: str = "") -> dict[str, Any]:
        """A run on this device, or by another trainer."""
        mine = "cpu" if self.rehearsal else "gpu"
        with initialize_config_dir(cli.CONF, version_base="1.3"):
            config = compose("train", [f"trainer={trainer or mine}", f"root={self.folder}", *overrides])
        values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        return values

    def endless(self, net: Net, rho: float, precision: str, *overrides: str) -> dict[str, Any]:
        """A run of a net on noise that is ended from inside."""
        count = 64 if self.rehearsal else 1024 if net.model == "resnet50" else 20 * 1024
        eager = ["trainer.stepper=eager"] * self.rehearsal  # a CPU would compile for so long a run
        return self.config(*net.overrides(count), "epochs=100000", "eval_every=100000", *eager, f"ascent.rho={rho:g}",
                           f"precision={precision}", *overrides)  # fmt: skip

    def each(self, cases: Sequence[Any]) -> Iterator[tuple[Any, float]]:
        """(case, seconds to measure it for), as long as there is time.

        Raises:
            LeftOut: the time was over before the cases were.
        """
        for number, case in enumerate(cases):
            if self.left <= 0:
                raise LeftOut(f"{number} of {len(cases)} cases, then the time was over")
            # What surrounds a measurement takes some tenths of a second.
            yield case, 0.02 if self.rehearsal else min(1.0, max(0.2, self.left / (len(cases) - number) - 0.4))


@contextlib.contextmanager
def foreign(what: str) -> Iterator[None]:
    """Around a part that is about other software: what does not run there is left out, and no fault of samgap's."""
    try:
        yield
    except (SettingError, OSError, subprocess.SubprocessError) as error:
        raise LeftOut(f"{what} does not run here ({line(error).rstrip('.')})") from error


def speed(what: str, precision: str, taken: list[float], **more: Any) -> Speed:
    """A row of seconds that were measured several times."""
    low, middle, high = statistics.quantiles(taken, n=4, method="inclusive") if len(taken) > 1 else taken * 3
    return Speed(what, precision, middle, len(taken), (high - low) / middle, **more)


def step_speed(bed: Bed, net: Net, rho: float, precision: str, taken: list[float], what: str = "") -> Speed:
    """A row of a step, with what it comes to in images, operations and share of the ceiling."""
    seconds = statistics.median(taken)
    rate = net.operations(rho) / seconds
    case = {"model": net.model, "width": net.width, "rho": rho, "batch_size": net.batch_size}
    share = rate / bed.ceilings[precision] if precision in bed.ceilings else None
    told = f"{'SAM' if rho else 'SGD'} step, {net.label}{what}"
    return speed(told, precision, taken, images=net.batch_size / seconds, rate=rate, share=share, case=case)


def timed(call: Callable[[], object], wait: Callable[[], object], seconds: float) -> list[float]:
    """Seconds that a call takes, over and over again; each sample is of enough calls to be long for the clock."""
    taken: list[float] = []
    calls, until = 1, float("inf")
    while len(taken) < WARM + 3 or time.perf_counter() < until:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        now = time.perf_counter()
        taken.append((now - started) / calls)
        if len(taken) == WARM:
            until, calls = now + seconds, max(1, round(0.01 / taken[-1]))
    return taken[WARM:]


class Stopwatch(Callback):
    """Seconds a step inside of a run, with all that surrounds it there but what lies between epochs.

    The device is waited for once in some steps: to wait in each would let it run dry where steps are small.
    """

    def __init__(self, bed: Bed, seconds: float) -> None:
        self.wait, self.seconds = bed.wait, seconds
        self.every = 0.002 if bed.rehearsal else 0.05  # of a sample
        self.taken: list[float] = []
        self.until = float("inf")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look on at each step."""
        task: Any = pl_module
        inner = task.stepper.step

        def step(batch: Any) -> Any:
            result = inner(batch)
            if batch.size < task.plan.layout.batch_size:
                self._restart()
            else:
                self._count()
            return result

        task.stepper.step = step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start anew."""
        self._restart()

    def _restart(self) -> None:
        self.wait()
        self.since, self.steps = time.perf_counter(), 0

    def _count(self) -> None:
        self.steps += 1
        if time.perf_counter() - self.since < self.every:
            return
        self.wait()
        now = time.perf_counter()
        self.taken.append((now - self.since) / self.steps)
        if len(self.taken) == WARM:
            self.until = now + self.seconds
        if len(self.taken) >= WARM + 3 and now > self.until:
            raise Enough
        self._restart()


def step_seconds(bed: Bed, config: dict[str, Any], seconds: float, *callbacks: Callback) -> list[float]:
    """Samples of what a step takes in a run of this config, which ends when there are enough."""
    watch = Stopwatch(bed, seconds)
    with tempfile.TemporaryDirectory(dir=bed.folder) as folder, contextlib.suppress(Enough):
        run(config, Path(folder), callbacks=[*callbacks, watch])
    return watch.taken[WARM:]
