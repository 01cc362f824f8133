"""One run: its files, and that a stopped run ends like an uninterrupted one."""

import csv
import dataclasses
import functools
import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from pytorch_lightning.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from samgap.errors import SettingError
from samgap.optim.sam import SAM
from samgap.pruning import mask
from samgap.runs import hits, records
from samgap.runs.records import RunRecord
from samgap.training import build, checkpoint
from samgap.training import run as runs
from samgap.training.cost import cost, operations
from samgap.training.evaluate import evaluate
from samgap.training.numerics import numerics
from samgap.training.plan import RunPlan
from samgap.training.run import Busy, run
from samgap.training.task import GapTask

Tiny = Callable[..., dict[str, Any]]
PASSING = ("seconds", "started", "finished", "host")


def lasting(record: RunRecord) -> dict[str, Any]:
    """Return a record without fields that may differ between runs."""
    return {key: value for key, value in dataclasses.asdict(record).items() if key not in PASSING}


def curve(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def test_a_schedule_is_called_without_the_checks_of_hydra(tiny: Tiny) -> None:
    schedule = build.schedule(RunPlan.of(tiny("schedule=cosine", "schedule.warmup_steps=2")))
    assert type(schedule) is functools.partial
    assert [schedule(step, 4) for step in range(5)] == [0, 0.5, 1, 0.5, 0]


def test_a_run_leaves_record_and_curve(tiny: Tiny, tmp_path: Path) -> None:
    record = run(tiny("epochs=5", "eval_every=2", "ascent.rho=0.1"), tmp_path)
    assert records.read(tmp_path) == record
    assert (record.status, record.arm, record.epochs, record.steps) == ("done", "SAM", 5, 15)
    assert record.params_total == record.params_live == 64 * 30 + 30 + 30 * 10 + 10 + 10 * 10 + 10
    rows = curve(tmp_path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [bool(row["test_acc"]) for row in rows] == [False, True, False, True, True]
    assert float(rows[-1]["test_acc"]) == record.test_acc_final
    assert max(float(row["test_acc"]) for row in rows if row["test_acc"]) == record.test_acc_best
    # 96 images in batches of 32; the rate falls at 50 and 75 % of 15 steps.
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    assert not (tmp_path / "last.ckpt").exists()


class _Reads(Callback):
    """Reads the curve on disk at the start of each epoch."""

    def __init__(self) -> None:
        self.found: list[bytes] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        path = Path(trainer.default_root_dir, "metrics.csv")
        self.found.append(path.read_bytes() if path.exists() else b"")


def test_the_curve_is_on_disk_while_a_run_lasts(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("of a try without a checkpoint\n")
    reads = _Reads()
    run(tiny("epochs=5", "eval_every=2", "ascent.rho=0"), tmp_path, callbacks=[reads])
    rows = curve(tmp_path)
    early = ["epoch", "step", "lr", "train_loss", "train_acc"]
    for epochs, found in enumerate(reads.found):
        columns = early if epochs < 2 else list(rows[0])  # test evaluations begin with the second epoch
        lines = [columns, *([row[column] for column in columns] for row in rows[:epochs])]
        assert found.decode() == ("".join(f"{','.join(line)}\r\n" for line in lines) if epochs else "")
    assert len(reads.found) == 5


def test_logged_loss_and_accuracy_are_of_the_first_pass(tiny: Tiny, tmp_path: Path) -> None:
    # T18: with one batch per epoch, the first row is of the untrained net, for any ascent.
    rows = []
    for rho in (0, 5):
        folder = tmp_path / str(rho)
        run(tiny("batch_size=96", "epochs=1", f"ascent.rho={rho}"), folder)
        rows.append(curve(folder)[0])
    assert rows[0]["train_loss"] == rows[1]["train_loss"]
    assert rows[0]["train_acc"] == rows[1]["train_acc"]


def test_training_learns(tiny: Tiny, tmp_path: Path) -> None:
    record = run(tiny("epochs=20", "data.train_size=900", "model.width=0.5"), tmp_path)
    assert record.test_acc_final is not None
    assert record.test_acc_final > 0.9
    assert record.train_acc_final is not None
    assert record.train_acc_final > 0.95


def test_a_run_with_a_record_is_not_done_again(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = run(tiny(), tmp_path)
    monkeypatch.setattr(runs, "_train", lambda *_: pytest.fail("trained again"))
    assert run(tiny(), tmp_path) == record


def test_runs_in_one_process_do_not_touch_each_other(tiny: Tiny, tmp_path: Path) -> None:
    # T49
    first = run(tiny("seed=1"), tmp_path / "a")
    run(tiny("seed=2", "model=resnet18", "model.width=2"), tmp_path / "b")
    assert lasting(run(tiny("seed=1"), tmp_path / "c")) == lasting(first)


def test_seeds_differ_and_zero_is_one(tiny: Tiny, tmp_path: Path) -> None:
    losses = [run(tiny(f"seed={seed}"), tmp_path / str(seed)).train_loss_final for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_a_replicate_differs_in_init_and_order_and_has_the_data_and_mask_of_its_seed(tiny: Tiny) -> None:
    plans = [RunPlan.of(tiny("pruner.sparsity=0.5", f"replicate={number}")) for number in (0, 1, 2)]
    data = [build.data(plan) for plan in plans]
    assert data[0] is data[1] is data[2]
    (first, masks), (second, others), (third, _) = (build.net(plan, data[0]) for plan in plans)
    assert all(torch.equal(mask_, others[name]) for name, mask_ in masks.items())
    ends = [next(net.parameters()) for net in (first, second, third)]
    assert not torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[1], ends[2])


DEEP = "model.code=tests.training.nets.Deep"


@pytest.mark.filterwarnings("ignore:Found 1 module")  # Lightning points to the layer
def test_a_layer_that_its_net_keeps_in_evaluation_mode_stays_there(tiny: Tiny, tmp_path: Path) -> None:
    given = (DEEP, "+model.depth=1", "precision=64-true", "epochs=3", "optimizer.lr=0.05")
    eager, compiled = (run(tiny(*given, f"trainer.stepper={name}"), tmp_path / name) for name in ("eager", "compiled"))
    assert (eager.stepper, compiled.stepper) == ("eager", "compiled")
    assert eager.train_loss_final == pytest.approx(compiled.train_loss_final, rel=1e-10)
    plan = RunPlan.of(tiny(*given))
    data = build.data(plan)
    net, _ = build.net(plan, data)
    before = [module.training for module in net.modules()]
    evaluate(net, build.loss(plan), data, data.test)
    assert [module.training for module in net.modules()] == before
    assert {*before} == {True, False}


def test_the_cost_of_a_run_depends_on_its_net_s_own_settings(tiny: Tiny) -> None:
    shallow, deep = (RunPlan.of(tiny(DEEP, f"+model.depth={depth}")) for depth in (1, 9))
    (channels, side, _), classes = shallow.net[2:4]
    pixels = channels * side**2
    assert operations(*deep.net) == (2 * pixels * (9 * pixels + classes), 0)
    assert cost(deep) > cost(shallow)


def test_unused_images_are_scored_beside_the_test(tiny: Tiny, tmp_path: Path) -> None:
    settings = ("data.train_size=96", "data.holdout=700", "epochs=5", "trainer.keep_weights=true")
    plain, record = (
        run(tiny(*settings, f"data.score_unused={on}"), tmp_path / on) for on in ("false", "true")
    )  # fmt: skip
    assert plain.scored_acc_final is None
    assert plain.test_acc_final == record.test_acc_final
    assert plain.train_loss_final == record.train_loss_final
    plan = RunPlan.of(tiny(*settings, "data.score_unused=true"))
    data = build.data(plan)
    net, _ = build.net(plan, data)
    net.load_state_dict(torch.load(tmp_path / "true" / "weights.pt", weights_only=True))
    unused = evaluate(net, build.loss(plan), data, data.unused).acc
    assert record.scored_acc_final == pytest.approx((597 * record.test_acc_final + 404 * unused) / 1001)
    assert unused != record.test_acc_final
    # The run also saved which images of each part are classified correctly.
    right = {part: hits.read(tmp_path / "true", part) for part in ("test", "holdout", "unused")}
    assert {part: len(found) for part, found in right.items()} == {"test": 597, "holdout": 700, "unused": 404}
    accuracies = [found.mean() for found in right.values()]
    assert accuracies == pytest.approx([record.test_acc_final, record.holdout_acc_final, unused])
    assert hits.read(tmp_path / "false", "unused") is None
    logits = net.eval()(data.normalize(data.test.images))
    assert (logits.argmax(dim=1) == data.test.labels).tolist() == right["test"].tolist()


def test_a_run_that_is_stopped_after_its_last_epoch_keeps_the_hits_of_every_evaluation(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("ascent.rho=0.1", "trainer.checkpoint_seconds=0", "epochs=5", "eval_every=2")
    whole = run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_record", lambda *_: (_ for _ in ()).throw(Stop))
        with pytest.raises(Stop):
            run(config, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "hits.npz").exists()
    assert lasting(run(config, tmp_path / "stopped")) == lasting(whole)
    curve = pd.read_csv(tmp_path / "whole" / "metrics.csv", index_col="epoch")
    for part in ("test", "holdout"):
        for epoch in (2, 4, 5):
            found = [hits.read(tmp_path / name, part, epoch) for name in ("whole", "stopped")]
            assert np.array_equal(*found)
            assert found[0].mean() == pytest.approx(curve.loc[epoch, f"{part}_acc"])
        assert np.array_equal(found[0], hits.read(tmp_path / "whole", part))
        assert hits.read(tmp_path / "whole", part, 3) is None
    (tmp_path / "whole" / "hits.npz").write_bytes(b"PK half of it")
    with pytest.raises(SettingError, match=r"hits\.npz is damaged \(\w+\): move it away"):
        hits.read(tmp_path / "whole")


def test_arms_start_from_the_same_net_and_see_the_same_batches(tiny: Tiny, tmp_path: Path) -> None:
    # With a tiny rho the trajectories agree up to rounding, so both arms share init and order.
    sgd, sam = (run(tiny(f"ascent.rho={rho}"), tmp_path / str(rho)) for rho in (0, 1e-5))
    assert sam.train_loss_final == pytest.approx(sgd.train_loss_final, rel=1e-3)
    assert (sgd.arm, sam.arm) == ("SGD", "SAM")


class Stop(Exception):
    """Represents anything that ends a process."""


@pytest.mark.parametrize(
    "settings",
    [
        "ascent.rho=0",
        "ascent.rho=0.1",
        "ascent=sam_unnormalized",
        "ascent=gsam ascent.interval=2 ascent.m=16",
        "ascent=asam precision=64-true clip_norm=0.5",
        "precision=bf16-mixed trainer.micro_batch=16",
    ],
)
@pytest.mark.parametrize("model", ["mlp", "resnet18"])
def test_a_stopped_run_ends_like_an_undisturbed_one(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, model: str
) -> None:
    config = tiny(*settings.split(), f"model={model}", "model.width=2", "epochs=6", "trainer.checkpoint_seconds=0",
                  "data.crop=1", "data.flip=true", "pruner.sparsity=0.5", "schedule=cosine")  # fmt: skip
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    undisturbed = run(config, whole)

    original = GapTask.training_step

    def training_step(self: GapTask, block: Any, index: int) -> None:
        if self.current_epoch == 3:
            original(self, [next(iter(block))], index)
            raise Stop
        original(self, block, index)

    monkeypatch.setattr(GapTask, "training_step", training_step)
    with pytest.raises(Stop):
        run(config, stopped)
    assert (stopped / "last.ckpt").exists()
    assert "Stop" in (stopped / "error.txt").read_text()
    assert curve(stopped) == curve(whole)[:3]  # the curve is on disk during the run
    with (stopped / "metrics.csv").open("a") as file:
        file.write("4,12,0.0")  # half a line, as after a power failure
    monkeypatch.setattr(GapTask, "training_step", original)
    # The steps before the checkpoint must not be repeated.
    epochs: list[int] = []
    start = GapTask.on_train_epoch_start
    monkeypatch.setattr(GapTask, "on_train_epoch_start", lambda self: (epochs.append(self.current_epoch), start(self)))
    again = run(config, stopped)
    assert epochs == [3, 4, 5]
    assert lasting(again) == lasting(undisturbed)
    assert (stopped / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert not (stopped / "last.ckpt").exists()
    assert not (stopped / "error.txt").exists()


@pytest.mark.parametrize("net", ["Dropping", "DroppingByPython", "DroppingByNumPy"])
def test_a_resumed_run_goes_on_with_the_same_random_numbers(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: str
) -> None:
    config = tiny(f"model.code=tests.training.nets.{net}", "model.width=2", "epochs=3", "trainer.checkpoint_seconds=0")
    whole = run(config, tmp_path / "whole")
    original = GapTask.on_train_epoch_start

    def stop(self: GapTask) -> None:
        if self.current_epoch == 2:
            raise Stop
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(GapTask, "on_train_epoch_start", stop)
        with pytest.raises(Stop):
            run(config, tmp_path / "stopped")
    assert lasting(run(config, tmp_path / "stopped")) == lasting(whole)


def test_a_warm_up_longer_than_the_run_is_said(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match="warmup_steps=7 is more than the 6 steps of the run, so the learning rate only"
    ):
        run(tiny("schedule=cosine", "schedule.warmup_steps=7"), tmp_path)


def test_a_checkpoint_that_is_none_is_damaged(tiny: Tiny, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "last.ckpt", "w") as file:
        file.writestr("a", "b")
    with pytest.raises(SettingError, match=r"last\.ckpt is damaged: move it away"):
        run(tiny(), tmp_path)
    torch.save({"a": 1}, tmp_path / "last.ckpt")
    with pytest.raises(SettingError, match=r"last\.ckpt is damaged: move it away"):
        run(tiny(), tmp_path)


@pytest.mark.parametrize("words", ["ascent.m=8", "trainer.micro_batch=16"])
def test_batch_norm_that_the_config_does_not_name_gets_whole_batches(tiny: Tiny, tmp_path: Path, words: str) -> None:
    with pytest.raises(SettingError, match="add batch_norm: local to its file in conf/model/"):
        run(tiny("model.code=tests.training.nets.Conv", "model.width=2", *words.split()), tmp_path)


def test_a_resumed_run_keeps_the_mask_of_its_checkpoint(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another machine may round a pruner's scores differently.
    config = tiny("pruner=snip", "pruner.sparsity=0.5", "epochs=6", "trainer.checkpoint_seconds=0", "ascent.rho=0.1")
    whole = run(config, tmp_path / "whole")
    original = GapTask.on_train_epoch_start

    def stop(self: GapTask) -> None:
        if self.current_epoch == 3:
            raise Stop
        original(self)

    monkeypatch.setattr(GapTask, "on_train_epoch_start", stop)
    with pytest.raises(Stop):
        run(config, tmp_path / "stopped")
    monkeypatch.setattr(GapTask, "on_train_epoch_start", original)
    globally = mask.globally
    monkeypatch.setattr(mask, "globally", lambda scores, live: {k: ~m for k, m in globally(scores, live).items()})
    assert lasting(run(config, tmp_path / "stopped")) == lasting(whole)


def test_a_sparse_record_shows_what_each_layer_lost(tiny: Tiny, tmp_path: Path) -> None:
    record = run(tiny("pruner=random_erk", "pruner.sparsity=0.5"), tmp_path)
    sizes = {"layers.1.weight": 64 * 30, "layers.3.weight": 300, "layers.5.weight": 100}
    assert record.sparsity_by_layer.keys() == sizes.keys()
    gone = sum(record.sparsity_by_layer[name] * size for name, size in sizes.items())
    assert gone == pytest.approx(1160)
    assert record.sparsity_by_layer["layers.5.weight"] == 0
    assert run(tiny(), tmp_path / "dense").sparsity_by_layer == {}


def test_an_emptied_layer_is_one_sentence(tiny: Tiny, tmp_path: Path) -> None:
    # Kernels with few inputs start with larger weights, so the first layer, which has the most, is emptied first.
    sparse = tiny("pruner=magnitude", "pruner.sparsity=0.99")
    with pytest.warns(
        UserWarning, match=r"leaves no weight in layers\.1\.weight, so nothing of the image passes there"
    ):
        record = run(sparse, tmp_path / "warned")
    assert record.sparsity_by_layer["layers.1.weight"] == 1
    with pytest.raises(SettingError, match=r"layers\.1\.weight.* or set pruner\.refuse_empty=false"):
        run(tiny("pruner=magnitude", "pruner.sparsity=0.99", "pruner.refuse_empty=true"), tmp_path / "refused")


def test_seconds_go_on_counting(tiny: Tiny, tmp_path: Path) -> None:
    last = checkpoint.LastCheckpoint(tmp_path, 0)
    last.load_state_dict({"seconds": 100.0})
    assert last.elapsed >= 100


def test_a_damaged_checkpoint_is_one_sentence(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"half")
    with pytest.raises(SettingError, match=r"last\.ckpt is damaged: move it away"):
        run(tiny(), tmp_path)


def test_a_flipped_byte_in_a_checkpoint_is_seen(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("trainer.checkpoint_seconds=0", "epochs=3")
    kept = tmp_path / "kept.ckpt"
    monkeypatch.setattr(records, "write", lambda record, folder: shutil.copy(folder / "last.ckpt", kept))
    run(config, tmp_path / "run")
    with zipfile.ZipFile(kept) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(kept.read_bytes())
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 255
    (tmp_path / "run" / "last.ckpt").write_bytes(content)
    with pytest.raises(SettingError, match=r"last\.ckpt is damaged"):
        run(config, tmp_path / "run")


def test_weights_are_kept_on_request(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny("trainer.keep_weights=true", "pruner.sparsity=0.9")
    record = run(config, tmp_path)
    weights = torch.load(tmp_path / "weights.pt")
    assert not (tmp_path / "last.ckpt").exists()
    assert list(weights) == [f"layers.{n}.{part}" for n in (1, 3, 5) for part in ("weight", "bias")]
    live = sum(int((w != 0).sum()) for name, w in weights.items() if name.endswith("weight"))
    kernels = 64 * 30 + 30 * 10 + 10 * 10
    assert live <= round(0.1 * kernels)
    assert record.params_live == record.params_total - kernels + round(0.1 * kernels)


def test_a_diverged_run_is_recorded_as_diverged(tiny: Tiny, tmp_path: Path) -> None:
    for rho in (0, 0.1):
        record = run(tiny("optimizer.lr=1e30", f"ascent.rho={rho}", "epochs=5"), tmp_path / str(rho))
        assert record.status == "diverged"
        assert record.test_acc_final is record.test_acc_best is record.train_acc_final is None
        assert record.epochs < 5
        assert records.read(tmp_path / str(rho)) == record


def test_a_last_batch_of_one_is_refused_where_batch_norm_would_fail(tiny: Tiny, tmp_path: Path) -> None:
    single = ("data.train_size=97", "batch_size=32")
    with pytest.raises(SettingError, match="a batch of 1 images a forward pass has a single one"):
        run(tiny(*single, "model=resnet18", "model.width=2"), tmp_path / "a")
    assert run(tiny(*single), tmp_path / "b").status == "done"


def test_two_processes_do_not_do_the_same_run(tiny: Tiny, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(Busy, match="being worked on by another process"):
        run(tiny(), tmp_path)
    assert not (tmp_path / "error.txt").exists()


def test_a_wrong_setting_writes_nothing(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="seed must be"):
        run(tiny("seed=-1"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_not_there(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingError, match=r"trainer=gpu needs a CUDA device .* set trainer=cpu"):
        run(tiny("trainer=gpu"), tmp_path)


class _Watch(Callback):
    """Records torch's global settings during a step."""

    def on_train_batch_start(self, *_: Any) -> None:
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        self.seen = matmul.allow_tf32, cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled()


def test_a_run_chooses_its_numerics_and_puts_them_back(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Lightning does not restore it
    flags = ((torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32"))
    before = [getattr(*flag) for flag in flags]
    try:
        for theirs in (True, False):
            for owner, name in flags:
                setattr(owner, name, theirs)
            watch = _Watch()
            run(tiny("trainer.deterministic=true"), tmp_path / str(theirs), callbacks=[watch])
            assert watch.seen == (False, False, True)
            assert [getattr(*flag) for flag in flags] == [theirs, theirs]
            assert not torch.are_deterministic_algorithms_enabled()
            with numerics("tf32"):
                assert [getattr(*flag) for flag in flags] == [True, True]
    finally:
        for (owner, name), value in zip(flags, before, strict=True):
            setattr(owner, name, value)


class _Waits(TorchDispatchMode):
    """Counts operations that would wait for a GPU, since the host needs their result or its size; and
    tensors made of Python numbers, which are copied to the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.steps = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        waits = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
        if waits & {*func.tags} or func is torch.ops.aten.lift_fresh.default:
            self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


class _WatchSteps(Callback):
    def __init__(self) -> None:
        self.waits = _Waits()

    def on_train_batch_start(self, *_: Any) -> None:
        self.waits.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        self.waits.__exit__(None, None, None)
        self.waits.steps += 1


@pytest.mark.parametrize(
    "overrides",
    [
        ["ascent=none"],
        ["ascent.rho=0.1", "ascent.m=16"],
        ["ascent=asam"],
        ["ascent=gsam"],
        ["pruner=random", "pruner.sparsity=0.5"],
    ],
)
def test_no_step_waits_for_the_device(tiny: Tiny, tmp_path: Path, overrides: list[str]) -> None:
    watch = _WatchSteps()
    run(tiny("trainer.stepper=eager", "clip_norm=1", *overrides), tmp_path, callbacks=[watch])
    assert watch.waits.steps
    assert not watch.waits.found
    with watch.waits:
        torch.ones(()).item()
        torch.ones(2).nonzero()
        torch.tensor([1.0])
    assert len(watch.waits.found) == 3


def test_operations_without_a_deterministic_kernel_are_one_line_of_a_run(tiny: Tiny, tmp_path: Path) -> None:
    class Net(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))
            torch.use_deterministic_algorithms(False)

    for again in range(2):
        with pytest.warns(UserWarning, match="There is no deterministic kernel of put_") as warned:
            run(tiny("epochs=2"), tmp_path / str(again), callbacks=[Net()])
        assert len(warned) == 1


def test_auto_is_the_cpu_where_there_is_no_gpu(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpu, auto = (run(tiny(f"trainer={name}"), tmp_path / name) for name in ("cpu", "auto"))
    assert lasting(auto) == lasting(cpu)
    assert (auto.device, auto.cuda) == ("cpu", {})
    with pytest.raises(SettingError, match="precision=tf32 needs a CUDA device"):
        run(tiny("trainer=auto", "precision=tf32"), tmp_path / "tf32")
    with pytest.raises(SettingError, match=r"set trainer\.deterministic=false, or trainer\.benchmark=false"):
        run(tiny("trainer=auto", "trainer.benchmark=true"), tmp_path / "benchmark")


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_other_precisions_train(tiny: Tiny, tmp_path: Path, precision: str) -> None:
    record = run(tiny(f"precision={precision}", "epochs=10", "data.train_size=900"), tmp_path)
    assert record.test_acc_final is not None
    assert record.test_acc_final > 0.6


def test_label_noise_is_trained_on_and_tested_without(tiny: Tiny, tmp_path: Path) -> None:
    record = run(tiny("data.label_noise=1", "epochs=30", "model.width=1", "data.train_size=900"), tmp_path)
    # All training labels are wrong, so the net does not learn the true ones.
    assert record.train_acc_final is not None
    assert record.test_acc_final is not None
    assert record.train_acc_final > record.test_acc_final
    assert record.test_acc_final < 0.1


def test_the_record_names_its_data(tiny: Tiny, tmp_path: Path) -> None:
    digests = [run(tiny(*o), tmp_path / str(i)).data_sha256 for i, o in enumerate([(), ("seed=1",), ("data.seed=1",)])]
    assert digests[0] == digests[1] != digests[2]


def test_the_checkpoint_has_plain_keys(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        records, "write", lambda record, folder: shutil.copy(folder / "last.ckpt", tmp_path / "kept.ckpt")
    )
    run(tiny("trainer.checkpoint_seconds=0", "epochs=3", "ascent.rho=0.1"), tmp_path / "run")
    state = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    assert "net.layers.1.weight" in state["state_dict"]
    assert "momentum_buffer" in state["optimizer_states"][0]["state"][0]
    assert state["global_step"] == 6
    json.dumps(state["samgap"]["curve"])


def test_the_curve_shows_what_the_ascent_was(tiny: Tiny, tmp_path: Path) -> None:
    run(tiny("ascent.rho=0.2", "epochs=2", "ascent.interval=2"), tmp_path / "sam")
    run(tiny("ascent.rho=0"), tmp_path / "sgd")
    for row in curve(tmp_path / "sam"):
        assert float(row["eps_norm"]) == pytest.approx(0.2, rel=1e-3)
        assert 0 < float(row["loss_rise"]) < 1
        assert 0.5 < float(row["cosine"]) <= 1
        assert float(row["grad_norm"]) > 0
    # Three steps per epoch: ascents in steps 0, 2 and 4.
    assert [row["sam_active"] for row in curve(tmp_path / "sam")] == [str(2 / 3), str(1 / 3)]
    assert "eps_norm" not in curve(tmp_path / "sgd")[0]


def test_an_ascent_of_another_length_than_rho_is_reported(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As rounding to half precision would do.
    ascent = SAM.ascent
    monkeypatch.setattr(SAM, "ascent", lambda *values: [0.9 * eps for eps in ascent(*values)])
    with pytest.warns(UserWarning, match=r"In epoch 1 the ascent had radius 0\.18, and ascent\.rho is 0\.2"):
        run(tiny("ascent.rho=0.2", "epochs=1"), tmp_path)


@pytest.mark.parametrize("rho", [0, 0.2])
@pytest.mark.parametrize("split", ["trainer.micro_batch=7", "trainer.micro_batch=1"])
def test_accumulated_gradients_are_those_of_the_batch(tiny: Tiny, tmp_path: Path, rho: float, split: str) -> None:
    # One ascent over all micro-batches; with 7 the last one has 4 examples.
    records_ = [
        run(tiny(f"ascent.rho={rho}", "precision=64-true", "epochs=4", *more), tmp_path / str(len(more)))
        for more in ((), (split,))
    ]
    assert records_[0].train_loss_final == pytest.approx(records_[1].train_loss_final, rel=1e-9)
    assert records_[0].identity == records_[1].identity


def test_the_final_gradient_alone_is_clipped(tiny: Tiny, tmp_path: Path) -> None:
    # Without momentum and decay, a step is lr times the clipped gradient; the ascent has its full radius.
    plain = ("optimizer.momentum=0", "optimizer.weight_decay=0", "epochs=1", "batch_size=96", "schedule=constant")
    moves = []
    for clip in ("null", "0.01"):
        folder = tmp_path / clip
        run(tiny(*plain, "ascent.rho=0.2", f"clip_norm={clip}", "trainer.keep_weights=true"), folder)
        moves.append(torch.load(folder / "weights.pt"))
        assert float(curve(folder)[0]["eps_norm"]) == pytest.approx(0.2, rel=1e-3)
    start = build_net(tiny(*plain)).state_dict()
    lengths = [
        torch.cat([(weights[f"layers.{n}.{part}"] - start[f"layers.{n}.{part}"]).flatten()
                   for n in (1, 3, 5) for part in ("weight", "bias")]).norm().item()
        for weights in moves
    ]  # fmt: skip
    assert lengths[1] == pytest.approx(0.1 * 0.01, rel=1e-3)
    assert lengths[0] > 10 * lengths[1]


def build_net(config: dict[str, Any]) -> torch.nn.Module:
    plan = RunPlan.of(config)
    return build.net(plan, build.data(plan))[0]


def test_a_checkpoint_of_another_run_is_refused(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "write", lambda record, folder: shutil.copy(folder / "last.ckpt", tmp_path / "kept"))
    run(tiny("trainer.checkpoint_seconds=0", "epochs=3"), tmp_path / "run")
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "kept", tmp_path / "other" / "last.ckpt")
    with pytest.raises(SettingError, match="is of another run: move it away"):
        run(tiny("trainer.checkpoint_seconds=0", "epochs=3", "ascent.rho=0.3"), tmp_path / "other")


def test_synchronized_batch_norm_needs_cuda(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingError, match="synchronized needs CUDA devices"):
        run(tiny("model=resnet18", "model.batch_norm=synchronized", "trainer.devices=2"), tmp_path)


def test_the_training_part_is_scored_before_the_net_leaves_its_device(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Lightning moves the net to the CPU before fit returns; there, scoring a large training set would take hours.
    calls = []
    score, cpu = GapTask.score, GapTask.cpu
    monkeypatch.setattr(GapTask, "score", lambda self, part: calls.append(len(part)) or score(self, part))
    monkeypatch.setattr(GapTask, "cpu", lambda self: calls.append("leaves") or cpu(self))
    run(tiny("epochs=1"), tmp_path)
    assert calls.index(96) < calls.index("leaves")  # number of training images


@pytest.mark.parametrize("group", ["model", "data", "optimizer", "ascent", "pruner"])
def test_a_key_that_a_part_does_not_take_is_one_sentence(tiny: Tiny, tmp_path: Path, group: str) -> None:
    expected = (
        rf"The keys of {group} must be those of a file in conf/{group}/: got an unexpected keyword argument 'foo'\."
    )
    with pytest.raises(SettingError, match=expected):
        run(tiny(f"+{group}.foo=1", "pruner.sparsity=0.5"), tmp_path)
