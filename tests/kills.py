"""kill -9 of a sweep at random times: it ends with the results of an uninterrupted one, and leaves nothing behind.

`python -m tests.kills 100 cores 7` kills sweeps of hydra/launcher=cores (or basic, gpus) 100 times, at times drawn with
seed 7, each with its process group. A sweep is restarted until it is done, and then a new one is started. The exit
code is 1 if a result differs from those of an uninterrupted sweep, or a file or process is left over.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.processes import LIMIT, alive, below, finished, hung

GRID = ("name=mine", "epochs=25", "data.train_size=1000", "data.holdout=100", "model.width=0.5,1", "ascent.rho=0,0.1",
        "seed=0,1", "trainer.checkpoint_seconds=0", "trainer.keep_weights=true", "eval_every=5")  # fmt: skip
LAUNCHERS = {"basic": (), "cores": (), "gpus": ("hydra.launcher.gpus=2",)}
# Files that remain in the end. Locks stay, since removing one is a race.
KEPT = re.compile(
    r"runs/[^/]+/(record\.json|metrics\.csv|hits\.npz|weights\.pt|\.lock|\.hydra/\w+\.yaml)|mine/own/(sweep\.yaml|gpus\.csv)"
)
# Fields of a result that differ between runs.
PASSING = re.compile(r'"(seconds|host|started|finished|commit|dirty)": .*')
SECONDS = 60.0  # seconds for processes of Ray to notice that their parent is gone


def start(root: Path, launcher: str) -> "subprocess.Popen[str]":
    """Start the sweep in a process group of its own."""
    overrides = (f"root={root}", f"hydra/launcher={launcher}", *LAUNCHERS[launcher], *GRID)
    return subprocess.Popen(
        [sys.executable, "-m", "samgap.train", "-m", *overrides],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def results(root: Path) -> dict[str, str | bytes]:
    """Return all results below `root`: the content of each file, of records without the fields that differ."""

    def content(path: Path) -> str | bytes:
        return PASSING.sub("", path.read_text()) if path.suffix == ".json" else path.read_bytes()

    return {f"{path.parent.name}/{path.name}": content(path) for path in sorted(root.glob("runs/*/[!.]*"))}


def left_over(root: Path) -> list[str]:
    """Return the files that should not remain."""
    files = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    return [file for file in files if not KEPT.fullmatch(file)]


def kills(count: int, launcher: str, seed: int, tell: Callable[[str], object] = print) -> int:
    """Kill sweeps `count` times; return the number of errors.

    Args:
        count: number of kills; the last sweep is then completed.
        launcher: a key of `LAUNCHERS`.
        seed: seed of the times.
        tell: called with a line of progress after each attempt.
    """
    draw, wrong, killed, starts = random.Random(seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as place:
        root, undisturbed = Path(place, "killed"), Path(place, "undisturbed")
        process = start(undisturbed, "basic")
        if error := finished(process) * bool(process.returncode):
            raise RuntimeError(error)
        expected = results(undisturbed)
        while killed < count or root.exists():
            before = time.monotonic()
            process, starts = start(root, launcher), starts + 1
            known: set[int] = set()
            # A start takes seconds: half of the times are counted from the start, the others from the training.
            begun, after = draw.random() < 0.5, draw.uniform(0, 6)
            moment = before + after if begun else float("inf")
            while process.poll() is None and (killed >= count or time.monotonic() < moment):
                known |= {*below(process.pid)}
                if time.monotonic() - before > LIMIT:
                    hung(process)
                if not begun and any(root.glob("runs/*/last.ckpt")):
                    begun, moment = True, time.monotonic() + after / 2
                time.sleep(0.02)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                killed += 1
            error = finished(process)
            deadline = time.monotonic() + SECONDS
            while alive(known) and time.monotonic() < deadline:
                time.sleep(0.05)
            if rest := alive(known):
                wrong += 1
                tell(f"{len(rest)} processes are left over")
                for pid in rest:
                    os.kill(pid, signal.SIGKILL)
            took = time.monotonic() - before
            done = len([*root.glob("runs/*/record.json")])
            tell(f"{killed} kills, {took:.1f} s: ended with {process.returncode}, {done} of {len(expected) // 3} done")
            if process.returncode == -signal.SIGKILL:
                continue
            problems = [error] * bool(process.returncode) + [f"left over: {file}" for file in left_over(root)]
            found = results(root)
            problems += [f"{file} differs" for file in expected | found if expected.get(file) != found.get(file)]
            wrong += len(problems)
            for problem in problems:
                tell(problem)
            shutil.rmtree(root)
    tell(f"{killed} kills of hydra/launcher={launcher}, {starts} starts, {wrong} things wrong (seed {seed}).")
    return wrong


if __name__ == "__main__":
    sys.exit(bool(kills(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
