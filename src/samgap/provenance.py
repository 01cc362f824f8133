"""What a result needs beside it: commit, versions, host, time."""

import functools
import os
import platform
import socket
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "omegaconf", "timm", "numpy", "samgap")
COMMIT = "SAMGAP_COMMIT"  # variable that tells the commit of sources which came without git


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def host() -> str:
    """The machine's name."""
    return socket.gethostname()


@functools.cache
def processor() -> str:
    """The processor's name, and on Linux its family and model, since virtual machines give many the same name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    found = dict(reversed([[word.strip() for word in line.split(":", 1)] for line in lines if ":" in line]))
    if "model name" not in found:
        return platform.processor() or platform.machine()
    return f"{found['model name']} (family {found.get('cpu family')}, model {found.get('model')})"


def commit() -> tuple[str, bool]:
    """(commit of this source tree, whether it had changes beside); ("unknown", True) outside a checkout.

    SAMGAP_COMMIT goes before what git says.
    """
    if told := os.environ.get(COMMIT):
        return told, False
    try:
        return _checkout()
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True


@functools.cache  # of an answer alone: a failure is none, and is not remembered
def _checkout() -> tuple[str, bool]:
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, check=True).stdout

    return git("rev-parse", "HEAD").strip(), bool(git("status", "--porcelain").strip())


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can move a number; sources may be used without being installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
