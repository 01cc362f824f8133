"""Time and memory of commands, each in a process of its own, as when a user starts it."""

import os
import subprocess
import sys
import time

from samgap.errors import SettingError


def seconds(name: str | None, *arguments: str, threads: int = 1, limit: float | None = None) -> tuple[float, str]:
    """Run a command; return its duration in seconds and its stderr.

    Args:
        name: runs the module samgap.<name>; None runs the first argument as Python code.
        arguments: arguments of the command.
        threads: OMP_NUM_THREADS.
        limit: seconds after which the command is stopped; None waits for its end.

    Raises:
        SettingError: the command failed, or was stopped.
    """
    started = time.perf_counter()
    command = [sys.executable, *(["-c"] if name is None else ["-m", f"samgap.{name}"]), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        raise SettingError(f"{' '.join(command)} did not end within {limit:.0f} seconds.") from None
    taken = time.perf_counter() - started
    if done.returncode:
        raise SettingError(f"{' '.join(done.args)} failed: {done.stderr}")
    return taken, done.stderr


def peak(name: str, *arguments: str, threads: int = 1) -> float:
    """Return the peak memory of a command in MiB; arguments and errors as for `seconds`."""
    # The process prints its own peak, since the system's count for a child includes the memory of its parent.
    code = f"import runpy, sys; sys.argv[0] = '{name}'; runpy.run_module('samgap.{name}', run_name='__main__'); "
    code += "print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')), file=sys.stderr)"
    _, stderr = seconds(None, code, *arguments, threads=threads)
    return int(stderr.split("VmHWM:")[1].split()[0]) / 1024
