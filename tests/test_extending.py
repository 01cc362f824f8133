"""The files and commands of docs/extending.md work in a copy of the project."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from samgap.optim.sam import SAM
from tests.processes import LIMIT

TOP = Path(__file__).parents[1]
PAGE = (TOP / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"^`([^`]+)`\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
NOTEBOOK = re.findall(r"^```python\n(from hydra .*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) for line in block.split("\n")
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the project and add the files of the page."""
    top = tmp_path_factory.mktemp("extended")
    for name in ("src", "conf", "tests"):
        shutil.copytree(TOP / name, top / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(TOP / "pyproject.toml", top)
    for path, text in FILES.items():
        assert not (top / path).exists(), path
        (top / path).parent.mkdir(exist_ok=True)
        (top / path).write_text(text)
    return top


def call(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join((str(copy / "src"), str(copy)))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_parts_of_a_run_are_to_be_had_in_a_notebook() -> None:
    made: dict[str, Any] = {}
    exec(NOTEBOOK[0], made)
    data, net, optimizer = made["data"], made["net"], made["optimizer"]
    images, labels = data.normalize(data.train.images[:8]), data.train.labels[:8]

    def closure() -> Any:
        optimizer.zero_grad()
        loss = made["loss"](net(images), labels)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(20)]
    assert type(optimizer) is SAM
    assert losses[-1] < losses[0] / 2
    assert made["schedule"](75, 100) == pytest.approx(0.01)
    assert sum(weight.numel() for weight in net.parameters()) == pytest.approx(5e3, rel=0.02)


def test_every_kind_of_part_has_its_two_files() -> None:
    for group, folder in (
        ("model", "models"),
        ("data", "data"),
        ("ascent", "optim"),
        ("pruner", "pruning"),
        ("probe", "curvature"),
    ):
        assert sum(path.startswith(f"conf/{group}/") for path in FILES) == 1
        assert sum(path.startswith(f"src/samgap/{folder}/") for path in FILES) == 1
    assert len(COMMANDS) - COMMANDS.count("") == 7


# Run the commands in one process, since their imports take longer than their work, and then the contract tests of the
# new files. Each is run as by `python -m`.
ALL = """
import json, os, runpy, sys

for words in json.loads(sys.argv[1]):
    os.environ["HYDRA_FULL_ERROR"] = "0"
    print("$", *words, flush=True)
    sys.argv = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as leave:
        if leave.code:
            raise
"""
NAMES = [Path(path).stem for path in FILES if path.startswith("conf/") and "figure" not in path]


@pytest.fixture(scope="module")
def said(copy: Path) -> str:
    """Return the output of all commands, and of the tests."""
    commands = [shlex.split(command) for command in filter(None, COMMANDS)]
    assert all(argv[:2] == ["python", "-m"] for argv in commands)
    options = ["-v", "-p", "no:xdist", "-o", "addopts=--import-mode=importlib", "-W", "ignore:Module already imported"]
    tests = ["pytest", *options, "tests/test_contracts.py", "-k", " or ".join(NAMES)]
    done = call(copy, "-c", ALL, json.dumps([*(argv[2:] for argv in commands), tests]))
    return done.stdout + done.stderr


def test_the_commands_work(copy: Path, said: str) -> None:
    for drawn in ("multirun/mine/own/mine.png", "multirun/stripes/smoke/stripes.pdf"):
        assert (copy / drawn).stat().st_size > 10_000
    assert "ascent had radius" not in said  # the radius is rho


def test_the_newcomers_pass_the_contracts(said: str) -> None:
    for name in NAMES:
        assert re.search(rf"\[.*{name}.*\] PASSED", said), name
    assert " FAILED" not in said
