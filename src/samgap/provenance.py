"""The origin of a result: commit, versions, host, time."""

import functools
import os
import platform
import socket
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "omegaconf", "timm", "numpy", "samgap")
COMMIT = "SAMGAP_COMMIT"  # environment variable with the commit of sources without git


def now(precision: str = "seconds") -> str:
    """Return the current time as ISO 8601 in UTC; `precision` is a `timespec` of `datetime.isoformat`."""
    return datetime.now(UTC).isoformat(timespec=precision)


def host() -> str:
    """Return the machine's name."""
    return socket.gethostname()


@functools.cache
def processor() -> str:
    """Return the processor's name; on Linux with family and model, since virtual machines hide names."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    fields = dict(reversed([[word.strip() for word in line.split(":", 1)] for line in lines if ":" in line]))
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    return f"{fields['model name']} (family {fields.get('cpu family')}, model {fields.get('model')})"


def commit() -> tuple[str, bool]:
    """Return (commit of this source tree, whether it has uncommitted changes); ("unknown", True) outside a checkout.

    SAMGAP_COMMIT takes precedence over git.
    """
    if stated := os.environ.get(COMMIT):
        return stated, False
    try:
        return _checkout()
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True


def sources() -> dict[str, Any]:
    """Return `commit` as a result keeps it."""
    return dict(zip(("commit", "dirty"), commit(), strict=True))


@functools.cache  # does not cache an error
def _checkout() -> tuple[str, bool]:
    return _git("rev-parse", "HEAD").strip(), bool(_git("status", "--porcelain").strip())


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent
    return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout


def history(path: str) -> list[tuple[str, str, str]] | None:
    """Return (commit, time in UTC, text) for each commit that changed a file, newest first.

    Args:
        path: path of the file, from the top of the checkout.

    Returns:
        None outside a checkout, and in a shallow clone, whose oldest commit appears to add every file.
    """
    try:
        if _git("rev-parse", "--is-shallow-repository").strip() != "false":
            return None
        # Merges count if they change the file relative to the first parent; deletions do not count.
        options = "--no-renames", "--diff-filter=AM", "--diff-merges=first-parent", "--no-patch"
        commits = []
        for line in _git("log", "--format=%H %ct", *options, "--", f":/{path}").splitlines():
            commit, seconds = line.split()
            time = datetime.fromtimestamp(int(seconds), UTC).isoformat(timespec="seconds")
            commits.append((commit, time, _git("show", f"{commit}:{path}")))
        return commits
    except (OSError, subprocess.CalledProcessError):
        return None


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result, "not installed" for some."""
    by_package = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            by_package[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            by_package[name] = "not installed"
    return by_package
