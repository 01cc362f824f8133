"""The code of training that only CUDA executes. Nothing of it has run on a card yet."""

from collections.abc import Callable

import torch
from torch import Tensor


def captured(call: Callable[[], object], changed: list[Tensor]) -> Callable[[], object]:
    """Return a function that does what `call` does, as one CUDA graph.

    Args:
        call: reads and writes tensors at fixed addresses, and reads nothing back to the host.
        changed: the tensors that it changes; they end as they were.
    """
    before = [tensor.clone() for tensor in changed]
    here, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(here)
    with torch.cuda.stream(side):
        for _ in range(2):  # libraries choose kernels and allocate, which a capture must not
            call()
            torch._foreach_copy_(changed, before)
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def cards() -> int:
    """Return the number of devices that this process sees; without using one, so that other processes can."""
    return torch.cuda.device_count()
