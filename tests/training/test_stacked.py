"""A stacked run equals a single run up to rounding, whatever happens to other runs; and a step can be captured."""

import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch import _inductor

from samgap.runs.records import RunRecord
from samgap.training import programs, stacked
from samgap.training.plan import RunPlan
from samgap.training.run import run
from tests.training.capture import captured
from tests.training.test_run import Stop, curve, lasting

Tiny = Callable[..., dict[str, Any]]
# 96 images: two full batches and a smaller one.
SAME = ("batch_size=40", "trainer.stepper=eager", "trainer.checkpoint_seconds=0")
VARIED = (
    "seed=0 ascent.rho=0.1",
    "seed=1 ascent.rho=0.3 optimizer.lr=0.02 pruner.sparsity=0.8",
    "seed=2 optimizer.weight_decay=0.01 schedule=cosine clip_norm=0.5",
)


def stack(configs: dict[int, dict[str, Any]], folder: Path, *callbacks: Callback) -> dict[int, Any]:
    """Carry out runs as a stack, each in its folder; return results or errors."""
    plans = [RunPlan.of(config) for config in configs.values()]
    assert len({stacked.alike(plan) for plan in plans}) == 1
    calls = [
        lambda config=config, number=number: run(config, folder / str(number), callbacks=callbacks)
        for number, config in configs.items()
    ]
    return dict(zip(configs, stacked.carry_out(calls, plans[0]), strict=True))


def hold(
    found: dict[int, RunRecord], configs: dict[int, dict[str, Any]], folder: Path, tolerance: float = 1e-10
) -> None:
    """Assert that each run ended like a single run, with the same curve."""
    for number, record in found.items():
        alone = run(configs[number], folder / "alone" / str(number))
        assert alone.stepper == "eager"
        assert (record.status, record.steps, record.identity) == (alone.status, alone.steps, alone.identity)
        ours, theirs = curve(folder / str(number)), curve(folder / "alone" / str(number))
        assert [list(row) for row in ours] == [list(row) for row in theirs]
        for mine, other in zip(ours, theirs, strict=True):
            values = [[float(value or "nan") for value in row.values()] for row in (mine, other)]
            assert values[0] == pytest.approx(values[1], rel=tolerance, abs=tolerance, nan_ok=True)
        assert record.train_loss_final == pytest.approx(alone.train_loss_final, rel=tolerance)


def numbered(*configs: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return dict(enumerate(configs))


@pytest.mark.parametrize(
    ("words", "tolerance"),
    [
        ("precision=64-true pruner.sparsity=0.5 clip_norm=1 data.crop=1 data.flip=true", 1e-10),
        ("precision=64-true pruner.sparsity=0.5 clip_norm=1 ascent=gsam model.code=tests.training.nets.Conv", 1e-10),
        ("pruner.sparsity=0.5 clip_norm=1 ascent=asam", 1e-3),
        ("pruner.sparsity=0.5 clip_norm=1 precision=bf16-mixed", 1e-1),
    ],
)
def test_stacked_runs_are_single_ones(tiny: Tiny, tmp_path: Path, words: str, tolerance: float) -> None:
    width = "4" if "Conv" in words else "0.1"
    configs = numbered(*(tiny(*SAME, *words.split(), f"model.width={width}", *varied.split()) for varied in VARIED))
    found = stack(configs, tmp_path)
    assert {record.stepper for record in found.values()} == {"stacked"}
    hold(found, configs, tmp_path, tolerance)


def test_sgd_runs_are_not_stacked_with_sam(tiny: Tiny, tmp_path: Path) -> None:
    configs = numbered(*(tiny(*SAME, "precision=64-true", f"seed={seed}", "ascent.rho=0") for seed in (0, 1)))
    assert stacked.alike(RunPlan.of(configs[0])) != stacked.alike(RunPlan.of(tiny(*SAME, "precision=64-true")))
    before = warnings.filters[:], warnings.showwarning, threading.active_count(), torch.get_default_dtype()
    found = stack(configs, tmp_path)
    # Alternating runs leave the global state of the process unchanged.
    assert (warnings.filters[:], warnings.showwarning, threading.active_count(), torch.get_default_dtype()) == before
    hold(found, configs, tmp_path)


def test_a_run_that_diverges_or_ends_early_touches_no_other(tiny: Tiny, tmp_path: Path) -> None:
    same = (*SAME, "precision=64-true", "epochs=4", "pruner.sparsity=0")
    varied = ("seed=0 optimizer.lr=1e30", "seed=1 stop_loss=5", "seed=2", "seed=3 ascent.rho=0.3", "seed=4")
    configs = numbered(*(tiny(*same, *words.split()) for words in varied))
    found = stack(configs, tmp_path)
    ends = [("diverged", 1), ("done", 1), *[("done", 4)] * 3]
    assert [(record.status, record.epochs) for record in found.values()] == ends
    hold({number: found[number] for number in (1, 2, 3, 4)}, configs, tmp_path)


class _StopsAt(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise Stop


def test_a_run_goes_on_in_a_stack_alone_and_in_another_stack(tiny: Tiny, tmp_path: Path) -> None:
    same = (*SAME, "precision=64-true", "epochs=5")
    configs = numbered(*(tiny(*same, f"seed={seed}") for seed in (0, 1, 2)))
    with pytest.raises(Stop):
        run(configs[0], tmp_path / "0", callbacks=[_StopsAt(1)])
    assert {type(one) for one in stack(configs, tmp_path, _StopsAt(3)).values()} == {Stop}
    found = {0: run(configs[0], tmp_path / "0")} | stack({1: configs[1], 2: configs[2]}, tmp_path)
    assert [record.stepper for record in found.values()] == ["eager", "stacked", "stacked"]
    hold(found, configs, tmp_path)


class _Widens(Callback):
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.optimizers[0].rho = 0.1 * (trainer.current_epoch + 1)


def test_rho_may_change_between_epochs(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(*SAME, "precision=64-true", "ascent.rho=0.1")
    (stacked_run,) = stack({0: config}, tmp_path, _Widens()).values()
    alone = run(config, tmp_path / "alone", callbacks=[_Widens()])
    assert (stacked_run.stepper, alone.stepper) == ("stacked", "eager")
    assert stacked_run.train_loss_final == pytest.approx(alone.train_loss_final, rel=1e-8)


class _Rolls(Callback):
    """Switches momentum on in the second epoch."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.optimizers[0].param_groups[0]["momentum"] = 0.9 * (trainer.current_epoch > 0)


def test_momentum_may_be_switched_on(tiny: Tiny, tmp_path: Path) -> None:
    sparse = "pruner.sparsity=0.5"  # new rows for the momentum need the masks again
    config = tiny(*SAME, "precision=64-true", "optimizer.momentum=0", "epochs=3", "batch_size=16", sparse)
    (stacked_run,) = stack({0: config}, tmp_path, _Rolls()).values()
    alone = run(config, tmp_path / "alone", callbacks=[_Rolls()])
    assert stacked_run.stepper == "stacked"
    assert stacked_run.train_loss_final == pytest.approx(alone.train_loss_final, rel=1e-8)


def test_an_error_of_a_run_that_goes_alone_is_its_own(tiny: Tiny, tmp_path: Path) -> None:
    given = [tiny(*SAME, "ascent.interval=2", f"seed={seed}") for seed in (0, 1)]

    def fail() -> None:
        run(given[0], tmp_path / "0")
        raise OSError("the disk is full")

    with pytest.warns(UserWarning, match="2 runs are not stacked"):
        first, second = stacked.carry_out([fail, lambda: run(given[1], tmp_path / "1")], RunPlan.of(given[0]))
    assert isinstance(first, OSError)
    assert second.status == "done"


def test_products_by_onednn_are_not_for_stacks(tiny: Tiny) -> None:
    plan = RunPlan.of(tiny("trainer.stepper=compiled", "trainer.products=onednn"))
    with pytest.warns(UserWarning, match="The products of the steps are not oneDNN's"):
        assert stacked.carry_out([], plan) == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("ascent.m=8", "it takes a batch whole"),
        ("ascent.interval=2", "each step must be the same"),
        ("model.code=tests.training.nets.Dropping model.width=2", "the net draws random numbers"),
    ],
)
def test_what_cannot_be_stacked_goes_alone_and_says_so(tiny: Tiny, tmp_path: Path, words: str, reason: str) -> None:
    configs = numbered(*(tiny(*SAME, *words.split(), f"seed={seed}") for seed in (0, 1)))
    with pytest.warns(UserWarning, match=f"2 runs are not stacked and go one by one: {reason}"):
        found = stack(configs, tmp_path)
    for number, record in found.items():
        assert lasting(record) == lasting(run(configs[number], tmp_path / "alone" / str(number)))


def test_runs_whose_stack_breaks_go_on_alone(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill, times = programs.Program._fill, iter(range(9))

    def full(self: programs.Program) -> None:
        fill(self)
        if next(times) == 1:
            raise RuntimeError("out of memory")

    monkeypatch.setattr(programs.Program, "_fill", full)
    configs = numbered(*(tiny(*SAME, "epochs=3", f"seed={seed}") for seed in (0, 1)))
    with pytest.warns(UserWarning, match="2 runs are not stacked and go one by one: out of memory"):
        found = stack(configs, tmp_path)
    assert [record.stepper for record in found.values()] == ["eager"] * 2
    hold(found, configs, tmp_path, 1e-3)


def test_a_step_of_one_run_and_of_several_can_be_captured(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(programs.CAPTURES, "cpu", captured)
    monkeypatch.setattr(_inductor, "compile", lambda graph, *_, **__: graph)
    words = "precision=64-true pruner.sparsity=0.5 data.crop=1 data.flip=true model.code=tests.training.nets.Conv"
    same = (*SAME, "epochs=3", *words.split(), "model.width=4", "clip_norm=1")
    configs = numbered(*(tiny(*same, *varied.split()) for varied in VARIED))
    found = stack(configs, tmp_path)
    assert {record.stepper for record in found.values()} == {"stacked"}
    record = run(tiny(*same, "seed=5", "trainer.stepper=compiled"), tmp_path / "5")
    assert record.stepper == "graph, compiled"
    hold(found | {5: record}, configs | {5: tiny(*same, "seed=5")}, tmp_path)


def test_the_stand_in_refuses_what_a_capture_refuses() -> None:
    t = torch.ones(2)
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        captured(lambda: t.mul_(float(t.sum())), [t])
    number = [1.0]
    replay = captured(lambda: t.add_(number[0]), [t])
    number[0] = 5.0  # Python code does not run again
    replay()
    assert t.tolist() == [2.0, 2.0]
