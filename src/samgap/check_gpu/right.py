"""Correctness of results on the device, compared with the CPU, with float64, and with an uninterrupted run."""

import copy
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from samgap.bench import commands
from samgap.check_gpu.bed import Bed, LeftOut, Net
from samgap.check_gpu.isolation import isolated
from samgap.check_gpu.rows import Check, Row
from samgap.check_gpu.stopwatch import Enough
from samgap.conformance.subject import Subject as Optimizer
from samgap.conformance.suite import examine
from samgap.curvature import probes
from samgap.curvature.examples import Examples
from samgap.curvature.probes import Subject
from samgap.runs import records
from samgap.training import devices, probing
from samgap.training.numerics import numerics
from samgap.training.plan import RunPlan
from samgap.training.probing import WEIGHTS
from samgap.training.ranks import Ranks
from samgap.training.run import run

STEPS, RHO = 20, 0.1
# Relative tolerances after `STEPS` steps, and of curvature.
SAME = 1e-9  # in float64, whose rounding errors of 1e-15 in a step these nets amplify little
NEAR = {"mlp": 1e-5, "resnet18": 1e-4}  # in float32, with rounding errors of 6e-8, larger in Winograd convolutions
FURTHER = 5  # TF32, with rounding errors of 5e-4, must differ at least this many times as much as float32
PROBED = 1e-6


def trained(
    bed: Bed, name: str, *overrides: str, trainer: str = "", callbacks: tuple[Callback, ...] = ()
) -> tuple[dict[str, Tensor], Callable[[], Subject]]:
    """Train a short run; return its state dict, and a function that restores its net on the CPU for probes."""
    config = bed.config(*overrides, "trainer.keep_weights=true", trainer=trainer)
    folder = bed.folder / name
    record = run(config, folder, callbacks=callbacks)
    weights: dict[str, Tensor] = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
    return weights, partial(probing.restored, RunPlan.of(config), record, folder, torch.device("cpu"))


def far(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Return |a - b| / |b| over all floating-point tensors."""
    x, y = (torch.cat([t.double().flatten() for t in state.values() if t.is_floating_point()]) for state in (a, b))
    return float((x - y).norm() / y.norm())


def differ(a: dict[str, Tensor], b: dict[str, Tensor]) -> int:
    """Return the number of tensors that are not equal bit for bit."""
    return sum(not torch.equal(a[key], b[key]) for key in b)


def numbers(bed: Bed) -> Iterator[Check]:
    """Compare 20 steps of an MLP and a ResNet-18 with the CPU's in float64, and 32-true and tf32 with float64.

    If rounding moves the input of a ReLU across 0, the gradient jumps, so two float32 runs of a ResNet differ by
    percents after 20 steps on any device. So for a ResNet, float32 logits of the net trained in float64 are compared.
    """
    mlp, resnet = (Net("mlp", 1, 28, 32), Net("resnet18", 16, 16, 32))
    if bed.rehearsal:
        mlp, resnet = (Net("mlp", 0.1, 28, 32), Net("resnet18", 2, 8, 32))
    for net, rho in product((mlp, resnet), (0.0, RHO)):
        what = f"{STEPS} {'SAM' if rho else 'SGD'} steps of {net.label}"
        point = (*net.overrides(STEPS * net.batch_size), "epochs=1", f"ascent.rho={rho:g}", "data.crop=1")
        threads = f"trainer.threads={1 if bed.rehearsal else os.cpu_count()}"
        exact, subject = trained(bed, f"{what}, cpu", *point, "precision=64-true", threads, trainer="cpu")

        def off_by(precision: str, what: str = what, point: Any = point, exact: Any = exact) -> float:
            overrides = (*point, "trainer.deterministic=true", f"precision={precision}")
            return far(trained(bed, f"{what}, {precision}", *overrides)[0], exact)

        off = off_by("64-true")
        yield Check(f"{what}, 64-true", f"the CPU's to {SAME:g}", f"{off:.2g} off", off <= SAME)
        if net is mlp:
            yield from coarse(bed, what, NEAR[net.model], off_by)
        else:
            yield from coarse(bed, f"logits after {what}", NEAR[net.model], partial(_logits, bed, subject()))


def coarse(bed: Bed, what: str, near: float, off: Callable[[str], float]) -> Iterator[Check]:
    """Check that float32 is close to float64, and that TF32, if the device has it, is `FURTHER` times as far from it.

    Args:
        bed: the device and its precisions.
        what: the quantity, for the table.
        near: largest error of float32.
        off: returns the error of the quantity in a precision, relative to float64.
    """
    single = off("32-true")
    yield Check(f"{what}, 32-true", f"float64's to {near:g}", f"{single:.2g} off", single <= near)
    if "tf32" in bed.precisions:
        tf32 = off("tf32")
        yield Check(f"{what}, tf32", f"{FURTHER} times as far", f"{tf32:.2g} off", tf32 >= FURTHER * single)


def _logits(bed: Bed, subject: Subject, precision: str) -> float:
    single = copy.deepcopy(subject.net).float().eval()
    inputs = subject.examples.inputs[:128].float()
    with torch.no_grad(), numerics(precision):
        logits = single.to(bed.device)(inputs.to(bed.device))
        reference = single.cpu().double()(inputs.double())
    return far({"": logits.cpu()}, {"": reference})


def conformance(bed: Bed) -> Iterator[Check]:
    """Run the conformance checks of SAM on this device, except those with several processes."""
    for row in examine(Optimizer("samgap.optim.sam:SAM", "wrapper"), bed.device):
        if row.verdict != "n/a":
            yield Check(f"conformance, {row.property}", row.wanted, row.came, row.verdict == "holds")


class _Stop(Callback):
    """Ends a run in its third epoch, as if it were killed."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.current_epoch == 2:
            raise Enough


def _sparse(bed: Bed) -> tuple[str, ...]:
    net = Net("resnet18", 2 if bed.rehearsal else 8, 8 if bed.rehearsal else 16, 32)
    return (
        *net.overrides(96 if bed.rehearsal else 320), "epochs=4", f"ascent.rho={RHO}", "data.crop=1", "pruner=random",
        "pruner.sparsity=0.5", "trainer.deterministic=true", "trainer.checkpoint_seconds=0",
    )  # fmt: skip


def resume(bed: Bed) -> Iterator[Check]:
    """Check a pruned ResNet-18 with deterministic kernels that is stopped in its third epoch and resumed."""
    straight, subject = trained(bed, "straight", *_sparse(bed))
    try:
        trained(bed, "stopped", *_sparse(bed), callbacks=(_Stop(),))
    except Enough:
        left = (bed.folder / "stopped" / "last.ckpt").exists()
    again, _ = trained(bed, "stopped", *_sparse(bed))
    changed = differ(again, straight)
    came = f"{changed} of {len(straight)} tensors differ" + ("" if left else ", and it left no checkpoint")
    yield Check("stopped and resumed, deterministic kernels", "as undisturbed, bit for bit", came, left and not changed)
    masks = subject().masks
    stray = sum(int((straight[name][~mask.bool()] != 0).sum()) for name, mask in masks.items())
    pruned = sum(int((~mask.bool()).sum()) for mask in masks.values())
    yield Check("pruned weights after SAM steps", "all 0", f"{stray} of {pruned} are not", pruned > 0 and not stray)


def curvature(bed: Bed) -> Iterator[Check]:
    """Compare lambda_max and s_2 of an MLP with the CPU's, in float64."""
    net = Net("mlp", 0.1, 28, 32)
    _, restore = trained(bed, "probed", *net.overrides(64 if bed.rehearsal else 320), "epochs=2", "precision=64-true")
    cpu = restore()
    device = Subject(
        copy.deepcopy(cpu.net).to(bed.device), cpu.loss,
        Examples(cpu.examples.inputs.to(bed.device), cpu.examples.labels.to(bed.device)), {},
    )  # fmt: skip
    options: dict[str, Any] = {"tol": 1e-8, "maxiter": 300, "seed": 0}
    results: list[tuple[float, float]] = []
    for subject in (cpu, device):
        top = probes.hessian(subject, examples=None, eigenvalues=1, samples=0, **options)["eigenvalues"][0]
        s = probes.nonuniformity(subject, examples=10, orders=[2], **options)["s"]["2"]["value"]
        results.append((top, s))
    for what, value, expected in zip(("lambda_max", "s_2"), results[1], results[0], strict=True):
        off = abs(value - expected) / abs(expected)
        yield Check(f"{what} of {net.label}", f"{expected:.9g} to {PROBED:g}", f"{value:.9g}", off <= PROBED)


def nccl(bed: Bed) -> Iterator[Row]:
    """Check a run with Lightning's strategy for several processes, in which nccl carries out all communication."""
    yield from isolated(_joined, bed)


def _joined(bed: Bed) -> Iterator[Check]:
    backend = "gloo" if bed.rehearsal else "nccl"
    if not dist.is_available() or (backend == "nccl" and not dist.is_nccl_available()):
        raise LeftOut(f"this torch has no {backend}")
    alone, _ = trained(bed, "alone", *_sparse(bed))
    known = {*os.environ}
    dist.init_process_group(backend, init_method=f"file://{bed.folder}/meet", rank=0, world_size=1)
    try:
        joined, _ = trained(bed, "joined", *_sparse(bed))
        changed = differ(joined, alone)
        came = f"{changed} of {len(alone)} tensors differ"
        yield Check(f"a run as one process of {backend}", "as without, bit for bit", came, changed == 0)
        weight = nn.Parameter(torch.ones(1000, device=bed.device))
        weight.grad = torch.rand(1000, device=bed.device)
        before = weight.grad.clone()
        Ranks(0).sum_all([weight])  # with a span of 1, `sum_all` would skip a sum over a single rank
        same = torch.equal(weight.grad, before)
        yield Check(f"gradients summed by {backend}", "as they were", "as they were" if same else "changed", same)
    finally:
        dist.destroy_process_group()
        for name in {*os.environ} - known:  # set by Lightning's strategy
            del os.environ[name]


def figure8(bed: Bed) -> Iterator[Check]:
    """Check the commands that sweep and draw figure 8 at smoke scale; on a GPU with two of its widths, as stacks."""
    overrides, runs = ["trainer=gpu", "hydra/launcher=stack", "model.width=2,8"], 24
    if bed.rehearsal:
        overrides, runs = ["trainer=cpu", "hydra/launcher=basic", "epochs=1", "data.train_size=200"], 8
        overrides += ["model.width=2,4", "ascent.rho=0,0.1", "seed=0,1"]
    figure, root = "figure=fig8/smoke", bed.folder / "figure"
    # If runs cannot be stacked, single runs take longer than planned; but a program that hangs must end.
    commands.seconds("train", "-m", figure, *overrides, f"root={root}", limit=3 * bed.left)
    commands.seconds("draw", figure, f"root={root}")
    report = json.loads((root / "fig8" / "smoke" / "fig8.json").read_text(encoding="utf-8"))
    done = [records.parse(path.read_text(encoding="utf-8")) for path in root.glob(f"runs/*/{records.RECORD}")]
    name = devices.name(bed.device)
    right = [record for record in done if record.device == name and record.status == "done"]
    steppers = ", ".join(sorted({record.stepper for record in right}))
    verdicts = ", ".join(verdict["answer"] for verdict in report["verdicts"])
    came = f"{len(right)} runs done on {name} ({steppers}); drawn: {verdicts}"
    holds = len(right) == runs and bool(verdicts)
    yield Check("figure 8 at smoke scale, swept and drawn", f"{runs} runs done", came, holds)
