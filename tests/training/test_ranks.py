"""Several processes for one run: the same results as with one process, and equal weights on all ranks."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from samgap.errors import SettingError
from samgap.runs import hits, records
from samgap.training import ranks
from samgap.training.run import run
from samgap.training.task import GapTask
from tests.processes import LIMIT
from tests.training.several import train

# 300 images in batches of 64: the last batch has 44, so ranks have fewer examples, or none with four ranks.
BASE = (
    "data.train_size=300 data.holdout=40 batch_size=64 epochs=10 model.width=0.1 precision=64-true optimizer.lr=0.05 "
    "ascent.rho=0.1 eval_every=5 "
)
TWO = {
    "SGD": "ascent.rho=0",
    "m of the batch": "",
    "m of a rank": "ascent.m=32",
    "groups on a rank": "ascent.m=8",
    "micro-batches": "trainer.micro_batch=5 ascent.m=16",
    "clipped": "clip_norm=0.5 ascent.m=32",
    "GSAM": "ascent=gsam ascent.m=32",
    "ASAM": "ascent=asam ascent.interval=3",
    "sparse": "pruner.sparsity=0.8 ascent.m=32 data.crop=1",
    "SNIP": "pruner=snip pruner.sparsity=0.8",
    "SNIP, rounded another way": "pruner=snip pruner.sparsity=0.8 mask",
    "batch norm": "model=resnet18 model.width=2 ascent.m=32 epochs=2 optimizer.lr=0.02",
    "a full disk": "trainer.checkpoint_seconds=0 full",
    "images in files": "data=digits_jpeg data.size=16 data.flip=true epochs=2",
    "single precision": "precision=32-true epochs=10",
}
FOUR = {
    "m of two ranks": "ascent.m=32",
    "m of a rank": "ascent.m=16",
    "m of the batch": "",
    "GSAM": "ascent=gsam ascent.m=32",
    "stopped": "ascent.m=16 trainer.checkpoint_seconds=0 stop",
}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Carry out all cases at once, since starting takes longer than training; return the folder of results."""
    folder = tmp_path_factory.mktemp("ranks")
    cases = {count: [BASE + case for case in some.values()] for count, some in ((2, TWO), (4, FOUR))}
    start = [sys.executable, str(ROOT / "tests/training/several.py"), str(folder), json.dumps(cases)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}/src{os.pathsep}{ROOT}"}
    done = subprocess.run(start, capture_output=True, text=True, env=environment, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


APART = ("single precision", "stopped", "a full disk")  # have tests of their own
CASES = [(2, name) for name in TWO] + [(4, name) for name in FOUR]


def of(folder: Path, count: int, name: str) -> tuple[Path, str]:
    cases = TWO if count == 2 else FOUR
    return folder / str(count) / str(list(cases).index(name)), BASE + cases[name]


@pytest.mark.parametrize(("count", "name"), CASES)
def test_weights_are_the_same_on_all_ranks_bit_for_bit(several: Path, count: int, name: str) -> None:
    # T3, T20. 50 steps; also buffers, which are averaged before each evaluation.
    folder, _ = of(several, count, name)
    first, *others = (torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count))
    for other in others:
        assert all(torch.equal(first["net"][key], other["net"][key]) for key in first["net"])
        assert {k: [r[k] for r in first["curve"]] for k in ("train_loss", "train_acc")} == {
            k: [r[k] for r in other["curve"]] for k in ("train_loss", "train_acc")
        }


@pytest.mark.parametrize(("count", "name"), [case for case in CASES if case[1] not in APART])
def test_one_process_does_the_same(several: Path, tmp_path: Path, monkeypatch: Any, count: int, name: str) -> None:
    # T20: m is a number of examples, and not of devices as in published code.
    folder, case = of(several, count, name)
    for name_ in ("on_train_epoch_start", "on_train_end"):  # restore what the worker's code sets in this process
        monkeypatch.setattr(GapTask, name_, getattr(GapTask, name_))
    train(tmp_path, 1, case)
    there, here = (torch.load(at / "0.pt", weights_only=False) for at in (folder, tmp_path))
    trained = [key for key in there["net"] if "running" not in key and "num_batches" not in key]
    for key in trained:
        torch.testing.assert_close(there["net"][key], here["net"][key], rtol=1e-7, atol=1e-9)
    for a, b in zip(there["curve"], here["curve"], strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-6)
        assert a["train_acc"] == b["train_acc"]
    # The identity is the same: it does not depend on the number of devices.
    assert records.read(folder / "run").identity == records.read(tmp_path / "run").identity


@pytest.mark.parametrize(("count", "name"), [(2, "images in files"), (4, "m of a rank")])
def test_every_image_is_scored_once_over_all_ranks(
    several: Path, tmp_path: Path, monkeypatch: Any, count: int, name: str
) -> None:
    # T26.
    folder, case = of(several, count, name)
    for name_ in ("on_train_epoch_start", "on_train_end"):
        monkeypatch.setattr(GapTask, name_, getattr(GapTask, name_))
    train(tmp_path / "alone", 1, case)
    ranks_ = [torch.load(folder / f"{rank}.pt", weights_only=False)["scored"] for rank in range(count)]
    assert sum(ranks_, Counter()) == torch.load(tmp_path / "alone" / "0.pt", weights_only=False)["scored"]
    assert hits.read(folder / "run").tolist() == hits.read(tmp_path / "alone" / "run").tolist()
    assert min(sum(scored.values()) for scored in ranks_) > 0.9 * max(sum(scored.values()) for scored in ranks_)


def test_a_full_disk_ends_no_run(several: Path) -> None:
    full, ordinary = (
        torch.load(of(several, 2, name)[0] / "0.pt", weights_only=False) for name in ("a full disk", "m of the batch")
    )
    assert all(torch.equal(full["net"][key], ordinary["net"][key]) for key in ordinary["net"])


def test_a_stopped_run_goes_on_on_all_ranks(several: Path) -> None:
    whole, stopped = (
        torch.load(of(several, 4, name)[0] / "0.pt", weights_only=False) for name in ("m of a rank", "stopped")
    )
    assert all(torch.equal(whole["net"][key], stopped["net"][key]) for key in whole["net"])
    assert whole["curve"] == stopped["curve"]
    assert stopped["epochs"] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9]  # stopped in the fifth; earlier ones are not repeated


def test_devices_need_torchrun(tiny: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"a process each: torchrun --nproc_per_node=2 -m samgap\.train"):
        run(tiny("trainer.devices=2"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_torchrun_needs_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingError, match=r"2 processes were started for one run: set trainer\.devices=2"):
        ranks.require(1)
