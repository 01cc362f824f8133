"""The part of training that only runs on CUDA."""

from collections.abc import Callable

import torch
from torch import Tensor


def captured(call: Callable[[], object], changed: list[Tensor]) -> Callable[[], object]:
    """Capture `call` as a CUDA graph; return a function that replays it.

    Args:
        call: reads and writes tensors at fixed addresses, and copies nothing to the host.
        changed: the tensors that `call` changes; this function leaves their values as they were.
    """
    before = [tensor.clone() for tensor in changed]
    current, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(2):  # libraries choose kernels and allocate memory, which is not allowed during a capture
            call()
            torch._foreach_copy_(changed, before)
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def cards() -> int:
    """Return the number of CUDA devices that this process sees, without initializing any of them."""
    return torch.cuda.device_count()
