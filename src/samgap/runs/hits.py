"""hits.npz: which images a run classified correctly at its end, to separate the noise of seeds from that of images.

It has an array of bools for each scored part (test, and holdout and unused if they exist), in the order of the images.
It is optional: gaps do not need it, no archive or logger keeps it, and restored runs have none.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from samgap.errors import SettingError
from samgap.files import replace

HITS = "hits.npz"


def write(hits: Mapping[str, np.ndarray], folder: Path) -> None:
    """Write the bools (N,) of each part in one step. Compressed bools need about as much space as packed bits."""
    replace(folder / HITS, lambda path: np.savez_compressed(path, **hits))  # type: ignore[arg-type]


def read(folder: Path, part: str = "test") -> np.ndarray | None:
    """Return the bools (N,) of a part; None if the run has none.

    Raises:
        SettingError: the file is damaged.
    """
    try:
        with np.load(folder / HITS) as arrays:
            return np.asarray(arrays[part]) if part in arrays else None
    except FileNotFoundError:
        return None
    except Exception as error:  # zipfile, zlib and NumPy raise different errors
        raise SettingError(f"{folder / HITS} is damaged ({type(error).__name__}): move it away.") from error
