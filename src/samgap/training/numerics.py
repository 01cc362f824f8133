"""The float32 arithmetic of a GPU (TF32 or IEEE) and its kernels during one run, restored afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def numerics(precision: str) -> Iterator[None]:
    """Use TF32 in matrix products and convolutions if precision is tf32, else IEEE float32; restore settings at exit.

    TF32 has 10 fraction bits, float32 has 23. By default torch uses TF32 in convolutions but not in matrix products, so
    the precision of a run would depend on the net. No CPU supports TF32.

    Lightning sets global switches for trainer.deterministic and trainer.benchmark; this function restores them.

    Args:
        precision: the run's setting, such as tf32.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    # The names before torch 2.9. Lightning uses them, and torch does not allow a mix of old and new names.
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    kernels = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
        torch.use_deterministic_algorithms(kernels[0], warn_only=kernels[1])
