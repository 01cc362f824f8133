"""Shared by all tests: composed configs, tiny runs, and the commands called in this process."""

import copy
import functools
import gc
import importlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["WANDB_MODE"] = "offline"

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from samgap import cli, naming
from tests.needs import MET

torch.set_num_threads(1)
naming.register()

# Overrides for a run of a fraction of a second.
TINY = ("epochs=2", "data.train_size=96", "data.holdout=40", "batch_size=32", "model.width=0.1")


def config(*overrides: str, name: str = "train") -> dict[str, Any]:
    """Return a composed config as plain values."""
    return copy.deepcopy(_composed(overrides, name)[1])


def composed(*overrides: str) -> DictConfig:
    """Return a composed config as OmegaConf objects."""
    return copy.deepcopy(_composed(overrides, "train")[0])


def swept(*overrides: str) -> dict[str, str]:
    """Return the axes that a composed config sweeps over, as overrides."""
    return dict(_composed(overrides, "train")[2])


@functools.cache
def _composed(overrides: tuple[str, ...], name: str) -> tuple[DictConfig, dict[str, Any], dict[str, str]]:
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        both = compose(name, overrides=list(overrides), return_hydra_config=True)
    own = OmegaConf.masked_copy(both, [key for key in both if key != "hydra"])
    return own, OmegaConf.to_container(own, resolve=True), both.hydra.sweeper.get("params") or {}


# The slowest files, in order. A worker of xdist runs one file at a time (pyproject.toml), so tests of a file share
# fixtures; since slow files come first, no worker is left alone with one at the end.
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
    "figures/convergence/test_study.py",
    "tracking/test_wandb.py",
    "report/test_report.py",
    "test_extending.py",
    "figures/sharpness/test_study.py",
    "test_contracts.py",
    "theory/test_command.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="files, and the tests of each, in another order")


def pytest_report_header(config: pytest.Config) -> str | None:
    seed = config.getoption("shuffle")
    return None if seed is None else f"shuffled: --shuffle={seed}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put slow files first, or shuffle the tests: none may depend on their order."""
    here = Path(__file__).parent
    rank: dict[Path, float] = {here / name: number for number, name in enumerate(LONG)}
    if (seed := config.getoption("shuffle")) is not None:
        draw = random.Random(seed)
        rank = {path: draw.random() for path in sorted({item.path for item in items})}
        draw.shuffle(items)
    items.sort(key=lambda item: rank.get(item.path, len(LONG)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need a program which is not installed; CI has all of them."""
    for mark in item.iter_markers("needs"):
        (packages,) = mark.args
        if not MET[packages]():
            if os.environ.get("CI"):
                pytest.fail(f"needs {packages}: apt-get install {packages}", pytrace=False)
            item.user_properties.append(("needs", packages))
            pytest.skip(f"needs {packages}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report in one line what was not tested, and what to install for it."""
    skipped = Counter(
        packages
        for report in terminalreporter.getreports("skipped")
        for name, packages in report.user_properties
        if name == "needs"
    )
    if skipped:
        summary = ", ".join(f"{count} want {packages}" for packages, count in skipped.most_common())
        terminalreporter.write_line(f"Not tested here: {summary} (apt-get install {' '.join(skipped)}).")


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Compose a run of a fraction of a second whose results go below tmp_path."""
    places = {"root": f"{tmp_path}/multirun", "data_dir": f"{tmp_path}/data"}
    return lambda *overrides: config(*TINY, *overrides) | places


def called(name: str, *arguments: str) -> int:
    """Call a command in this process as from a shell; return its exit code."""
    main = importlib.import_module(f"samgap.{name}").main
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cli.FULL, "0")  # the command sets it for its process
        patch.setattr(sys, "argv", [f"samgap.{name}", *arguments])
        try:
            cli.command(main, sweeps=name == "train")
        except SystemExit as leave:
            return int(leave.code or 0)
    return 0


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """As `called`, with its output: command("train", "epochs=1") -> (exit code, stdout, stderr)."""

    def call(name: str, *arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = called(name, *arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return call


# Environment variables that pytest and libraries set.
OTHERS = ("PYTEST_", "PYTHONBREAKPOINT", "KMP_", "RAY_", "WANDB_SERVICE", "_TORCHINDUCTOR_")


def state() -> dict[str, object]:
    """Return global state of the process, which a test must leave as it was."""
    return {
        **{f"${name}": value for name, value in os.environ.items() if not name.startswith(OTHERS)},
        "working directory": os.getcwd(),  # noqa: PTH109
        "sys.path": [path for path in sys.path if "site-packages" not in path],  # packages add entries
        "handlers of signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)],
        "torch's threads": torch.get_num_threads(),
        "torch's dtype": torch.get_default_dtype(),
        "torch's determinism": torch.are_deterministic_algorithms_enabled(),
        "torch's gradients": torch.is_grad_enabled(),
        "Hydra": GlobalHydra.instance().is_initialized(),
    }


@pytest.fixture(autouse=True)
def _process_left_as_found() -> Iterator[None]:
    """Fail the test that changed global state, rather than a later test."""
    before = state()
    yield
    gc.unfreeze()  # a command freezes objects to exit faster
    after = state()
    changed = {what for what in before.keys() | after.keys() if before.get(what) != after.get(what)}
    assert {what: (before.get(what), after.get(what)) for what in changed} == {}


@pytest.fixture(autouse=True)
def _figures_closed() -> Iterator[None]:
    """Close the figures that a test drew; matplotlib warns of more than twenty."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
