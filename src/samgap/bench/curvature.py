"""The cost of curvature, for a net of figure 6 after a few epochs of training."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from samgap.bench.commands import peak, seconds
from samgap.bench.rows import Row, bounded
from samgap.bench.steps import Compose
from samgap.curvature import eigen
from samgap.curvature.hessian import Hessian
from samgap.curvature.probes import Subject
from samgap.runs import measurements, records, sweeps
from samgap.training import probing
from samgap.training.plan import RunPlan

TOL = 1e-3
SMALL = ("data=digits", "data.train_size=100", "model.width=0.1")


def rows(compose: Compose, smoke: bool = False) -> Iterator[Row]:
    """Yield the rows on curvature. With `smoke` the net is so small that the numbers mean nothing."""
    with tempfile.TemporaryDirectory() as root:
        point = ("figure=fig6/cpu", "stop_loss=null", "ascent.rho=0.05", "seed=0", "probe=[]")
        trained = (*point, "epochs=5", "eval_every=5", f"root={root}", *(SMALL if smoke else ()))
        seconds("train", *trained)
        folder = next(sweeps.runs(Path(root)).iterdir())
        config = compose(*trained)
        record = records.parse((folder / records.RECORD).read_text(encoding="utf-8"))
        yield _largest(probing.restored(RunPlan.of(config), record, folder, torch.device("cpu")))
        yield from _moment(folder, 20 if smoke else 1_000)


def _largest(subject: Subject) -> Row:
    """Count gradient evaluations for lambda_max, compared with power iteration to the same residual."""
    operators = [Hessian(subject.net, subject.loss, subject.examples) for _ in range(2)]
    ours = eigen.largest(operators[0], tol=TOL)
    _iterate(operators[1], ours.residuals[0])
    lanczos, power = (float(operator.gradients) for operator in operators)
    what = f"lambda_max, MLP p = 10, {len(subject.examples):,} examples"
    return Row(what, "power iteration", lanczos, power, "gradients", lanczos / power, 0.333, 1)


def _iterate(operator: Hessian, residual: float, limit: int = 1_000) -> None:
    """Carry out power iteration until the relative residual is `residual`, for at most `limit` products."""
    vector = np.random.default_rng(0).normal(size=operator.shape[0])
    for _ in range(limit):
        vector /= np.linalg.norm(vector)
        image = operator.matvec(vector)
        value = vector @ image
        if np.linalg.norm(image - value * vector) <= residual * abs(value):
            break
        vector = image


def _moment(folder: Path, examples: int) -> Iterator[Row]:
    """Measure seconds and peak memory of a process that computes s_2 with two threads."""
    memory = peak(
        "probe", f"run={folder}", "probe=[moments]", f"probe.moments.examples={examples}", "probe.moments.orders=[2]",
        threads=2,
    )  # fmt: skip
    result = json.loads((folder / measurements.FOLDER / "moments.json").read_text())
    what = f"s_2, MLP p = 10, {examples:,} examples"
    yield bounded(f"{what}, two threads", result["seconds"], 15 * 60, "s")
    yield bounded(f"{what}, peak memory", memory, 4 * 1024, "MiB")
