"""Seeds: one number determines everything random in a run, through independent named streams.

Each stream, such as "init" or ("order", epoch 7), has its own generator. It depends only on the seed and its name, not
on earlier draws. So a resumed run needs no replay, and two runs in one process give the same results as in two
processes. 0 is a seed like any other.
"""

import hashlib
import random
from collections.abc import Callable, Mapping
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


def global_states() -> dict[str, Any]:
    """Return the states of the global generators of Python, NumPy and torch's CPU, as plain values and a tensor."""
    numpy: Any = np.random.get_state()
    return {
        "cpu": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [*numpy[:1], numpy[1].tolist(), *numpy[2:]],
    }


def restore_globals(states: Mapping[str, Any]) -> None:
    """Restore what `global_states` returned; states that are missing, as in older checkpoints, stay."""
    setters: dict[str, Callable[[Any], object]]
    setters = {"cpu": torch.set_rng_state, "python": random.setstate, "numpy": np.random.set_state}
    for name, restore in setters.items():
        if name in states:
            restore(states[name])


def seed_globals(seed: int, *names: str | int) -> None:
    """Seed the global generators of Python, NumPy and torch (all devices); layers such as dropout use them."""
    value = derive(seed, *names)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)
