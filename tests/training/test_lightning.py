"""Lightning's own features: keywords of its Trainer, callbacks, and the short runs of conf/debug/."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.profilers import SimpleProfiler

from samgap.errors import SettingError
from samgap.runs.identity import identity
from samgap.training.machine import INSTEAD, LIMIT, TRAINER
from samgap.training.run import run
from samgap.training.settings import resolve
from tests.conftest import TINY, config

Tiny = Callable[..., dict[str, Any]]
Command = Callable[..., tuple[int, str, str]]
# Passed on to Lightning; they do not affect results.
HARMLESS = {
    "detect_anomaly", "enable_autolog_hparams", "enable_progress_bar", "inference_mode", "limit_predict_batches",
    "limit_test_batches", "limit_val_batches", "model_registry", "num_sanity_val_steps", "profiler",
    "reload_dataloaders_every_n_epochs",
}  # fmt: skip


class Stops(Callback):
    """Ends a run too early."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self.stop)

    def stop(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        trainer.should_stop = True


def test_every_keyword_of_lightnings_is_taken_for_what_it_does() -> None:
    # A keyword of a new version must be classified, since it might change results.
    ours = {"accelerator", "devices", "deterministic", "benchmark"}
    assert ours < TRAINER
    assert {*inspect.signature(Trainer).parameters} == ours | INSTEAD.keys() | HARMLESS | {LIMIT}
    assert not INSTEAD.keys() & (HARMLESS | {LIMIT})


def test_fewer_batches_an_epoch_are_another_run(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny("ascent.rho=0", "+trainer.limit_train_batches=2")
    record = run(config, tmp_path)
    assert (record.status, record.epochs, record.steps) == ("done", 2, 4)  # each epoch has three batches
    assert record.settings["trainer"] == {LIMIT: 2}
    assert record.identity == identity(resolve(config)) != identity(resolve(tiny("ascent.rho=0")))
    with pytest.raises(SettingError, match="is damaged"):
        run(tiny("ascent.rho=0"), tmp_path)


def test_limits_are_an_axis_of_a_sweep(command: Command, tmp_path: Path) -> None:
    grid = ("name=mine", f"root={tmp_path}", *TINY, "+trainer.limit_train_batches=1,2", "hydra.sweeper.dry_run=true")
    assert "mine/own: 0/2 done" in command("train", "-m", *grid)[1]
    assert command("train", "-m", *grid[:-1])[0] == 0
    assert "axes:\n- trainer.limit_train_batches\n" in (tmp_path / "mine" / "own" / "sweep.yaml").read_text()


def test_a_profiler_says_where_the_time_went_and_changes_nothing(
    tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, profiled = (run(tiny(*more), tmp_path / str(len(more))) for more in ((), ("+trainer.profiler=simple",)))
    assert "[LightningModule]GapTask.on_train_epoch_end" in caplog.text
    assert (plain.identity, plain.train_loss_final) == (profiled.identity, profiled.train_loss_final)


def test_an_object_of_lightnings_is_made_of_its_target(tiny: Tiny, tmp_path: Path) -> None:
    class Sees(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.profiler = trainer.profiler

    planned = tiny(
        "+trainer.profiler._target_=pytorch_lightning.profilers.SimpleProfiler",
        f"+trainer.profiler.dirpath={tmp_path}", "+trainer.profiler.filename=times",
        "callbacks=[model_summary]", "+callbacks.mine._target_=pytorch_lightning.callbacks.LambdaCallback",
    )  # fmt: skip
    sees = Sees()
    assert run(planned, tmp_path / "run", callbacks=[sees]).identity == identity(resolve(tiny()))
    assert isinstance(sees.profiler, SimpleProfiler)
    assert "Profiler Report" in (tmp_path / "fit-times.txt").read_text()


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_train_epoch_end"])
def test_a_run_that_a_callback_cuts_short_has_no_record(tiny: Tiny, tmp_path: Path, hook: str) -> None:
    planned = tiny("+callbacks.mine._target_=tests.training.test_lightning.Stops", f"+callbacks.mine.hook={hook}")
    with pytest.raises(SettingError, match=r"ended this run after 3 of 6 steps, and no record is written"):
        run(planned, tmp_path)
    assert not (tmp_path / "record.json").exists()


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("+callbacks.mine._target_=nowhere.Callback", "callbacks.mine cannot be made (No module named 'nowhere'"),
        ("+callbacks.mine._target_=builtins.dict", "callbacks.mine._target_ must name a callback of Lightning's, got"),
        ("+callbacks.mine={_target_:pytorch_lightning.callbacks.Timer,x:1}", "callbacks.mine cannot be made ("),
        ("+callbacks.mine=3", "callbacks.mine._target_ must name a callback of Lightning's, got 3."),
        ("+trainer.profiler=x", "trainer.profiler must be simple, advanced or pytorch, or name a _target_, got 'x'."),
        ("+trainer.profiler={a:1}", "trainer.profiler must be simple, advanced or pytorch, or name a _target_, got {"),
        ("+trainer.limit_val_batches=x", "Lightning does not take what trainer and callbacks say ("),
    ],
)
def test_what_lightning_cannot_take_is_one_sentence(tiny: Tiny, tmp_path: Path, override: str, part: str) -> None:
    with pytest.raises(SettingError) as error:
        run(tiny(override), tmp_path / "run")
    assert str(error.value).startswith(part)
    assert str(error.value).endswith(".")
    assert not (tmp_path / "run" / "record.json").exists()


@pytest.mark.parametrize("name", ["limit", "overfit", "profiler"])
def test_debugging_stays_in_a_root_of_its_own(name: str, tmp_path: Path) -> None:
    assert config("figure=fig8/smoke", f"debug={name}")["root"] == "multirun/debug"  # even if the figure sets it
    record = run(config(f"debug={name}", "ascent.rho=0"), tmp_path)
    assert record.steps == {"limit": 4, "overfit": 100, "profiler": 10}[name]
    assert name != "overfit" or record.train_acc_final == 1


def test_callbacks_that_are_no_group_are_one_sentence(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"callbacks must name files of conf/callbacks/, .* got 3\."):
        run(tiny() | {"callbacks": 3}, tmp_path)
