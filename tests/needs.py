"""Programs that some tests need, and that a machine with Python, make and git may lack.

A need is named by the Debian packages that provide it: `@pytest.mark.needs("g++")`. tests/conftest.py skips the test
if they are missing, and fails it in CI, which installs all of them.
"""

import shutil
from collections.abc import Callable

from samgap.data import fashion_mnist
from samgap.training import compiled


def program(name: str) -> str | None:
    """Return the path of a program, also of system services, which may not be on the user's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _programs(*names: str) -> bool:
    return all(program(name) for name in names)


MET: dict[str, Callable[[], bool]] = {
    "g++": lambda: compiled.missing() is None,
    "dataset-fashion-mnist": fashion_mnist.DEBIAN.exists,
    "chromium chromium-driver": lambda: _programs("chromium", "chromedriver"),
    "slurm-wlm munge": lambda: _programs("munged", "slurmctld", "slurmd", "sbatch"),
}
