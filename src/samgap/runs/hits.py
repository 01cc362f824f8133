"""hits.npz: which images a run classified correctly, to separate the noise of seeds from that of images.

For each scored part (test, and holdout and unused if they exist) it has an array of bools (evaluations, images), in the
order of the images, and the epochs of the evaluations, such as test and test_epochs. Unused images are scored once, at
the end. The file is optional: gaps do not need it, no archive or logger keeps it, and restored runs have none.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from samgap.errors import SettingError
from samgap.files import replace

HITS = "hits.npz"

Packed = dict[str, dict[int, bytes]]
"""Part -> epoch -> bits, as `pack` returns them."""


def pack(hits: np.ndarray) -> bytes:
    """Return bools (N,) as bits, 1.25 kB for 10,000 images."""
    return np.packbits(hits).tobytes()


def write(hits: Packed, images: Mapping[str, int], folder: Path) -> None:
    """Write all evaluations in one step.

    Args:
        hits: the evaluations.
        images: number of images of each part.
        folder: the run's folder.
    """
    arrays = {}
    for part, evaluations in hits.items():
        bits = np.stack([np.frombuffer(packed, np.uint8) for packed in evaluations.values()])
        arrays[part] = np.unpackbits(bits, axis=1, count=images[part]).astype(bool)
        arrays[f"{part}_epochs"] = np.array(list(evaluations))
    replace(folder / HITS, lambda path: np.savez_compressed(path, **arrays))  # type: ignore[arg-type]


def read(folder: Path, part: str = "test", epoch: int | None = None) -> np.ndarray | None:
    """Return the bools (N,) of a part after an epoch, by default the last that was scored; None if there are none.

    Raises:
        SettingError: the file is damaged.
    """
    try:
        with np.load(folder / HITS) as arrays:
            if part not in arrays:
                return None
            found = np.atleast_2d(arrays[part])  # older files have the last evaluation only, and no epochs
            if epoch is None:
                return np.asarray(found[-1])
            at = np.flatnonzero(arrays.get(f"{part}_epochs", np.zeros(0)) == epoch)
            return np.asarray(found[at[0]]) if len(at) else None
    except FileNotFoundError:
        return None
    except Exception as error:  # zipfile, zlib and NumPy raise different errors
        raise SettingError(f"{folder / HITS} is damaged ({type(error).__name__}): move it away.") from error
