"""The time of a step. Other implementations (peers) are timed between the epochs of a run, so under the same load."""

import cProfile
import dataclasses
import io
import os
import pstats
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from samgap.bench import images, jax_step, torch_steps
from samgap.bench.rows import Row, paired
from samgap.models.mlp import MLP
from samgap.models.resnet18 import ResNet18
from samgap.training import products
from samgap.training.products import Product
from samgap.training.run import run

SGD: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
RHO = 0.1
SPARSITY = 0.75
Peer = Callable[[], object]  # one step
Compose = Callable[..., dict[str, Any]]


class StepTimer(Callback):
    """Times samgap's steps in each epoch, without evaluation, and then as many steps of each peer.

    The first epoch is dropped, since it includes compiling.
    """

    def __init__(self, peers: Mapping[str, Peer]) -> None:
        self.peers = peers
        self.seconds: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start timing."""
        self.started, self.before = time.perf_counter(), trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop timing, then time the peers."""
        steps = trainer.global_step - self.before
        taken = {"ours": (time.perf_counter() - self.started) / steps}
        for name, peer in self.peers.items():
            peer()  # compiles, or warms the cache
            started = time.perf_counter()
            for _ in range(steps):
                peer()
            taken[name] = (time.perf_counter() - started) / steps
        if trainer.current_epoch:
            for name, seconds in taken.items():
                self.seconds[name].append(seconds)


@dataclasses.dataclass(frozen=True)
class Case:
    """A net, the length of its run, and the goal for its SAM step compared with JAX."""

    model: str
    width: float
    epochs: int
    images: int  # per epoch
    goal: float
    limited: bool = True  # also compare with the time of its matrix products alone; not for tiny nets
    sparse: bool = False  # also compare with the same net at SPARSITY
    loops: bool = False  # also compare with loops in torch

    @property
    def label(self) -> str:
        """The name in the table."""
        return f"{'MLP p' if self.model == 'mlp' else 'ResNet-18 f'} = {self.width:g}"

    @property
    def data(self) -> str:
        """The data set, which determines the size of the images."""
        return "mnist" if self.model == "mlp" else "cifar10"

    def config(self, compose: Compose, rho: float, epochs: int, sparsity: float = 0) -> dict[str, Any]:
        """Return the config of a run."""
        return compose(
            f"pruner.sparsity={sparsity:g}",
            f"data={self.data}", f"data.code={images.__name__}.{self.data}", "data.holdout=0",
            f"data.train_size={self.images}", f"model={self.model}", f"model.width={self.width:g}",
            f"ascent.rho={rho:g}", f"epochs={epochs}", f"eval_every={epochs}", "trainer.stepper=compiled",
            *(f"optimizer.{key}={value}" for key, value in SGD.items()),
        )  # fmt: skip

    def net(self) -> nn.Module:
        """Return the net for a peer."""
        return MLP((1, 28, 28), 10, self.width) if self.model == "mlp" else ResNet18((3, 32, 32), 10, int(self.width))


CASES = (
    Case("mlp", 0.1, epochs=10, images=60_000, goal=1.0, limited=False, loops=True),
    Case("mlp", 1, epochs=4, images=60_000, goal=0.95, sparse=True),
    Case("mlp", 4, epochs=3, images=60_000, goal=0.9),
    Case("mlp", 10, epochs=3, images=25_600, goal=0.85),
    Case("resnet18", 4, epochs=3, images=10_240, goal=0.5),
    Case("resnet18", 8, epochs=3, images=10_240, goal=0.5),
    Case("resnet18", 16, epochs=2, images=10_240, goal=0.5),
)
# Shows in seconds that everything runs; the numbers mean nothing.
SMOKE = (Case("mlp", 0.1, epochs=1, images=512, goal=1.0, loops=True),)


def rows(compose: Compose, cases: Iterable[Case] = CASES) -> Iterator[Row]:
    """Yield the rows on steps.

    Args:
        compose: makes a config from overrides.
        cases: the cases to measure.
    """
    with one_core():
        for case in cases:
            for row, config in _case(compose, case):
                yield dataclasses.replace(row, profile=profile(config)) if row.holds is False else row


def timed(config: Mapping[str, Any], peers: Mapping[str, Peer]) -> dict[str, list[float]]:
    """Train; return seconds per step of samgap ("ours") and of each peer, for each epoch but the first."""
    timer = StepTimer(peers)
    with tempfile.TemporaryDirectory() as folder:
        run(config, Path(folder) / "run", callbacks=[timer])
    return timer.seconds


@contextmanager
def one_core() -> Iterator[None]:
    """Run this thread, and threads that it starts, on one core, to compare libraries without parallelism."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {max(cores)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def _case(compose: Compose, case: Case) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Yield each row with the config of the run that it measured."""
    mlp = case.model == "mlp"
    channels, size = (1, 28) if mlp else (3, 32)
    x = torch.randn(128, channels, size, size, generator=torch.Generator().manual_seed(0))
    y = torch.arange(128) % 10
    for arm, rho in (("SAM", RHO), ("SGD", 0.0))[: 1 + mlp]:
        peers: dict[str, Peer] = {}
        jax, _ = jax_step.stepper(case.model, case.width, x.numpy(), y.numpy(), rho=rho, sgd=SGD)
        peers["the JAX step"] = partial(_waited, jax)
        goals = {"the JAX step": case.goal if rho else 1.0}
        note = ""
        if case.loops and rho:
            peers["a bare two-step loop"] = torch_steps.two_step(case.net(), x, y, RHO, **SGD)
            peers["pytorch_optimizer's SAM"] = torch_steps.pytorch_optimizer(case.net(), x, y, RHO, **SGD)
        if mlp and case.limited and rho:
            peers[LIMIT], note = limit(case.net())
            goals[LIMIT] = 1 / 0.8
        config = case.config(compose, rho, case.epochs + 1)
        seconds = timed(config, peers)
        what = f"{arm} step, {case.label}"
        for name in peers:
            row = paired(what, name, seconds["ours"], seconds[name], goals.get(name))
            yield dataclasses.replace(row, note=note if name == LIMIT else ""), config
    sam, sgd = (case.config(compose, rho, 2) for rho in (RHO, 0.0))
    if case.loops:
        noise = images.mnist(Path()).train.take(torch.arange(max(256, case.images // 8)))
        loop = [torch_steps.lightning_seconds(case.net(), noise.images[:], noise.labels, RHO, **SGD) for _ in range(3)]
        again = [timed(sam, {})["ours"][0] for _ in loop]
        yield paired(f"SAM step, {case.label}", "a Lightning loop with a DataLoader", again, loop, 0.2), sam
    yield _alternating(case, f"SAM step, {case.label}", "our SGD step", (sam, sgd), 2.05), sam
    if case.sparse:
        sparse = case.config(compose, RHO, 2, SPARSITY)
        what = f"SAM step, {case.label}, {100 * SPARSITY:g} % sparse"
        yield _alternating(case, what, "the dense net's", (sparse, sam), 1.1), sparse


LIMIT = "its products alone"


def limit(net: nn.Module) -> tuple[Peer, str]:
    """Return the matrix products of an MLP's SAM step, each with its faster library, and their speed in words."""
    pairs = [(layer.in_features, layer.out_features) for layer in net.modules() if isinstance(layer, nn.Linear)]
    layers = [Product(128, k, n, (False, True)) for k, n in pairs]
    gradients = [Product(n, 128, k, (True, False)) for k, n in pairs]
    inputs = [Product(128, n, k, (False, False)) for k, n in pairs[1:]]
    forward_and_backward = [*layers, *gradients, *inputs]
    taken = [products.seconds(product) for product in forward_and_backward]
    work = sum(2 * product.m * product.k * product.n for product in forward_and_backward) / 1e9
    rates = {name: work / sum(times[name] for times in taken) for name in taken[0]}
    fastest = work / sum(min(times.values()) for times in taken)
    fast = [
        partial(products.WAYS[min(times, key=times.__getitem__)], *product.operands())
        for product, times in zip(forward_and_backward, taken, strict=True)
    ]

    def once() -> None:
        for _ in range(2):
            for multiply in fast:
                multiply()

    all_by = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    return once, f"limit {fastest:.0f} GFLOP/s; of one library {all_by}"


def _waited(step: Callable[[], Any]) -> float:
    return float(step())  # waits, since JAX returns before a step has ended


def _alternating(
    case: Case, what: str, against: str, configs: tuple[dict[str, Any], dict[str, Any]], goal: float
) -> Row:
    # Short alternating runs. The first pair is dropped, since it compiles the functions.
    pairs = [[timed(config, {})["ours"][0] for config in configs] for _ in range(case.epochs + 1)]
    ours, other = (list(column) for column in zip(*pairs[1:], strict=True))
    return paired(what, against, ours, other, goal)


def profile(config: Mapping[str, Any]) -> str:
    """Return the profile of a run of 3 epochs: the functions with the largest own time, in percent of the total."""
    profiler = cProfile.Profile()
    profiler.runcall(partial(timed, {**config, "epochs": 3, "eval_every": 3}, {}))
    stats = pstats.Stats(profiler, stream=io.StringIO())
    entries = sorted(((own, calls, key) for key, (_, calls, own, _, _) in stats.stats.items()), reverse=True)[:8]  # type: ignore[attr-defined]
    total: float = stats.total_tt  # type: ignore[attr-defined]
    return "\n".join(f"{100 * own / total:5.1f} %  {calls:>7,} calls  {_name(key)}" for own, calls, key in entries)


def _name(key: tuple[str, int, str]) -> str:
    file, _, function = key
    if "inductor_entry" in function:
        return "the compiled step"
    return f"{Path(file).name} {function}" if file != "~" else function
