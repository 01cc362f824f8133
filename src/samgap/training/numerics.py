"""The float32 arithmetic of a GPU (TF32 or IEEE) and its kernels during one run, restored afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def numerics(precision: str) -> Iterator[None]:
    """Use TF32 in matrix products and convolutions if precision is tf32, else IEEE float32; restore settings at exit.

    TF32 keeps 10 bits of the fraction, float32 23. By default torch uses TF32 in convolutions but not in products, so
    that one name would mean two precisions, depending on the net. No CPU supports TF32.

    Lightning sets kernels (trainer.deterministic, trainer.benchmark) and does not restore them; this function does.

    Args:
        precision: of the run.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    # The names before torch 2.9. Lightning reads them too, and torch does not allow a mix of old and new names.
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    kernels = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
        torch.use_deterministic_algorithms(kernels[0], warn_only=kernels[1])
