"""hits.npz: the images that a run got right at its end, to separate the noise of seeds from that of images.

It has a bool for each image of each scored part (test, and holdout and unused if there are any), in the order of the
part. It is no result: gaps do not need it, no archive or logger keeps it, and restored runs have none.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from samgap.errors import SettingError
from samgap.files import replace

HITS = "hits.npz"


def write(hits: Mapping[str, np.ndarray], folder: Path) -> None:
    """Write the bools (N,) of each part in one step; compressed, bools take about as much as packed bits."""
    replace(folder / HITS, lambda path: np.savez_compressed(path, **hits))  # type: ignore[arg-type]


def read(folder: Path, part: str = "test") -> np.ndarray | None:
    """Return the bools (N,) of a part; None if the run has none.

    Raises:
        SettingError: the file is damaged.
    """
    try:
        with np.load(folder / HITS) as kept:
            return np.asarray(kept[part]) if part in kept else None
    except FileNotFoundError:
        return None
    except Exception as error:  # zipfile, zlib and numpy have each their own
        raise SettingError(f"{folder / HITS} is damaged ({type(error).__name__}): move it away.") from error
