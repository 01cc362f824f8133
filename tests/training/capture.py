"""A stand-in on the CPU for the capture of CUDA graphs, with the same restrictions."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.equal.default}


class _Recorder(TorchDispatchMode):
    """Records each operation with its tensors, and refuses those whose result is copied to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in READS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {function}")
        found = function(*args, **(kwargs or {}))
        self.done.append((function, args, kwargs or {}, found))
        return found


def captured(call: Callable[[], object], changed: Sequence[Tensor]) -> Callable[[], object]:
    """Like `cuda.captured`: Python code of `call` runs only once; a replay repeats the operations on the tensors
    of the capture, at their addresses."""
    before = [tensor.clone() for tensor in changed]
    with _Recorder() as recorder:
        call()
    torch._foreach_copy_(list(changed), before)

    def replay() -> None:
        for function, args, kwargs, found in recorder.done:
            again = function(*args, **kwargs)
            for new, old in zip(pytree.tree_leaves(again), pytree.tree_leaves(found), strict=True):
                if isinstance(old, Tensor) and new.data_ptr() != old.data_ptr():
                    old.copy_(new)

    return replay
