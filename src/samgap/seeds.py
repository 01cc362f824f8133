"""Seeds: one number determines everything random in a run, through independent named streams.

Each stream, such as "init" or ("order", epoch 7), has its own generator. It depends only on the seed and its name, not
on earlier draws. So a resumed run needs no replay, and two runs in one process give the same results as in two
processes. 0 is a seed like any other.
"""

import hashlib
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for the stream `names` of `seed`, by a hash, so that similar names have unrelated seeds."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def of_run(settings: Mapping[str, Any]) -> int:
    """Return the seed of initialization, order and augmentation: `seed`, or for a replicate a seed derived from it."""
    seed, replicate = settings["seed"], settings.get("replicate")
    return derive(seed, "replicate", replicate) if replicate else seed


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU generator for the stream `names` of `seed`."""
    return torch.Generator().manual_seed(derive(seed, *names))


def seed_globals(seed: int, *names: str | int) -> None:
    """Seed the global generators of Python, NumPy and torch (all devices); layers such as dropout use them."""
    value = derive(seed, *names)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)
