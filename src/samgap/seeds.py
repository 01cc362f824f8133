"""Seeds: one number drives everything random in a run, by named streams that do not touch each other.

`seed=3` gives the stream "init" one generator, ("order", epoch 7) another, and so on. A stream depends on its
name and not on what was drawn before, so a resumed run needs no replay and two runs in one process are the same
as two processes. 0 is a seed like any other.
"""

import hashlib
import random

import numpy as np
import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream `names` of `seed`: a hash, so that neighbors are unrelated."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for the stream `names` of `seed`."""
    return torch.Generator().manual_seed(derive(seed, *names))


def seed_globals(seed: int, *names: str | int) -> None:
    """Seed the global generators of Python, NumPy and torch (all devices), which layers like dropout draw from."""
    value = derive(seed, *names)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)
