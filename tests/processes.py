"""Processes that a command has started, and the one that carries out a run. All waits have a time
limit.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

LIMIT = 240.0  # seconds after which a process counts as hanging


def finished(process: "subprocess.Popen[str]") -> str:
    """Wait for a process that leads its group, and return what it wrote to stderr; fail if it hangs."""
    try:
        return process.communicate(timeout=LIMIT)[1]
    except subprocess.TimeoutExpired:
        hung(process)


def wait_for(happened: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until something has happened while the process runs; fail if it ends before, or if both hang."""
    end = time.monotonic() + LIMIT
    while not happened():
        assert process.poll() is None, finished(process)
        if time.monotonic() > end:
            hung(process)
        time.sleep(0.02)


def hung(process: "subprocess.Popen[str]") -> NoReturn:
    """Kill the process and its group, and fail with the last lines of its stderr."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    last = process.communicate(timeout=10)[1].splitlines()[-20:]
    raise AssertionError("\n".join([f"{process.args} hangs: killed after {LIMIT:g} s. Its last lines:", *last]))


def below(pid: int) -> dict[int, str]:
    """Return all descendants of the process `pid`, with their command lines."""
    found: dict[int, str] = {}
    seen = [pid]
    while seen:
        try:
            at = seen.pop()
            children = [int(child) for child in Path(f"/proc/{at}/task/{at}/children").read_text().split()]
            found |= {child: Path(f"/proc/{child}/cmdline").read_text() for child in children}
            seen += children
        except OSError:
            continue
    return found


def alive(pids: Iterable[int]) -> list[int]:
    """Return the processes that have not ended."""

    def state(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return "gone"

    return [pid for pid in pids if state(pid) not in ("Z", "gone")]


def workers(root: Path, run: str = "*") -> list[int]:
    """Return the processes with this name that hold the lock of the only unfinished run below `root`; none between two
    attempts. A process that only looks at a run holds a READ lock for a moment.
    """
    inodes = [(path.parent / ".lock").stat().st_ino for path in root.glob(f"runs/{run}/last.ckpt")]
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    held = [fields for fields in locks if (fields[1], fields[3]) == ("FLOCK", "WRITE")]
    return [int(fields[4]) for fields in held if int(fields[5].rpartition(":")[2]) in inodes]
