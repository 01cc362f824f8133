"""Settings of the process while steps are compiled for the CPU, and while they run."""

import contextlib
import ctypes
import logging
from collections.abc import Iterator

FAST_BINS, TRIM_THRESHOLD, MMAP_MAX = 1, -1, -4  # parameters of glibc's mallopt


def hold_memory() -> None:
    """Keep freed memory for the next step, until the process ends; without glibc do nothing.

    glibc would return large blocks to the system, which must zero their pages for the next step. In nets of 400,000
    weights or more this takes 10 to 33 % of a step.
    """
    with contextlib.suppress(AttributeError, OSError):  # the C library is not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_MAX, 0)  # blocks of 32 MiB or more would always be returned
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(FAST_BINS, 0)  # allocating a large block would search them, which takes 2 % of a small step


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Compile in this process alone, and leave out what Inductor does for GPUs."""
    from torch._inductor import codecache, config

    logger = logging.getLogger("torch.utils.cpp_extension")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it would warn that there is no CUDA
    hashes = getattr(codecache, "triton_key", None)
    with contextlib.suppress(AttributeError, RuntimeError):  # another version of torch; already known
        hashes.set(None)  # type: ignore[union-attr]  # hashing all of Triton would take 0.25 s
    try:
        with config.patch(compile_threads=1):
            yield
    finally:
        logger.setLevel(level)
        with contextlib.suppress(AttributeError):
            hashes.clear()  # type: ignore[union-attr]
            codecache.CacheBase.get_system.cache_clear()  # contains the hash
