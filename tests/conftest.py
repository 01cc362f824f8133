"""Shared by all tests: composed configs, tiny runs, and the commands called in this process."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["WANDB_MODE"] = "offline"

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from samgap import cli, naming

torch.set_num_threads(1)
naming.register()

# A run of a fraction of a second.
TINY = ("epochs=2", "data.train_size=96", "data.holdout=40", "batch_size=32", "model.width=0.1")


def config(*overrides: str, name: str = "train") -> dict[str, Any]:
    """A composed config as plain values."""
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        return OmegaConf.to_container(compose(name, overrides=list(overrides)), resolve=True)


# Files that take longest, in order. A worker of xdist takes a file at a time (pyproject.toml), so what the tests of one
# share is made once; and with the long ones first no worker is left alone with one at the end.
LONG = (
    "test_slurm.py",
    "test_commands.py",
    "test_gpus.py",
    "test_configs.py",
    "test_torchrun.py",
    "training/test_ranks.py",
    "bench/test_bench.py",
    "conformance/test_suite.py",
    "training/test_compiled.py",
    "results/test_convergence.py",
    "test_wandb.py",
    "report/test_report.py",
    "test_extending.py",
    "results/test_flatness.py",
    "test_contracts.py",
    "theory/test_command.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first."""
    here = Path(__file__).parent
    rank = {here / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(LONG)))


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Compose a run of a fraction of a second whose results go below tmp_path."""
    return lambda *overrides: config(*TINY, f"root={tmp_path}/multirun", f"data_dir={tmp_path}/data", *overrides)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Call a command as the shell would, in this process: command("train", "epochs=1") -> (exit code, out, err)."""

    def call(name: str, *arguments: str) -> tuple[int, str, str]:
        import importlib

        main = importlib.import_module(f"samgap.{name}").main
        monkeypatch.setenv(cli.FULL, "0")  # the command sets it for this process; put back after the test
        monkeypatch.setattr(sys, "argv", [f"samgap.{name}", *arguments])
        capfd.readouterr()
        code = 0
        try:
            cli.command(main)
        except SystemExit as leave:
            code = int(leave.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture(autouse=True)
def _figures_closed() -> Iterator[None]:
    """Figures that a test drew; matplotlib warns of more than twenty."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
