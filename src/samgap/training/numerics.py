"""In which arithmetic a GPU multiplies float32 numbers, and by which kernels: of one run, and put back after it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def numerics(precision: str) -> Iterator[None]:
    """Products and convolutions of float32 numbers in TF32 with `tf32`, in IEEE float32 with every other precision.

    TF32 keeps 10 bits of the fraction, float32 23. Left alone, torch uses TF32 in convolutions and not in products, so
    that two nets would be trained in two precisions under one name. No CPU knows TF32.

    Which kernels (trainer.deterministic, trainer.benchmark) Lightning is told, and leaves set; it is put back here.

    Args:
        precision: of the run.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    # Names of before torch 2.9, which Lightning reads too; torch refuses to mix them with the new ones.
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    kernels = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
        torch.use_deterministic_algorithms(kernels[0], warn_only=kernels[1])
