"""Checks with several processes: two on this machine train one net with DistributedDataParallel (gloo)."""

import contextlib
import multiprocessing
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch import multiprocessing as processes
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

from samgap.conformance.fixtures import batch, layers
from samgap.conformance.properties import Outcome, register
from samgap.conformance.subject import Subject

COUNT, STEPS = 2, 20


@register("ranks agree with an ascent each", "the same, pass 1 under no_sync (m-sharpness)", local=True)
@register("ranks agree", "weights equal bit for bit after 20 steps, 2 processes under DDP", local=False)
def ranks_agree(subject: Subject, *, local: bool) -> Outcome:
    """Train on different examples in each process; count the weights that differ at the end.

    DDP averages gradients and never weights. So if processes have different eps, inexact restoring makes them diverge.

    Args:
        subject: the class; each process makes its own optimizer.
        local: do not average gradients in pass 1, so that each process has its own ascent.
    """
    # Import slow modules only once, in the fork server; the first optimizer imports torch._dynamo.
    multiprocessing.set_forkserver_preload([__name__, "torch._dynamo"])
    with tempfile.TemporaryDirectory() as folder:
        processes.start_processes(_train, (subject, local, folder), COUNT, start_method="forkserver")  # type: ignore[attr-defined, no-untyped-call]
        first, second = (torch.load(Path(folder) / f"{rank}.pt") for rank in range(COUNT))
    changed = sum(int((first[key] != second[key]).sum()) for key in first)
    return Outcome(f"{changed} of {sum(w.numel() for w in first.values())} weights differ", changed == 0)


def _train(rank: int, subject: Subject, local: bool, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=COUNT)
    net = layers(noisy=False)
    wrapped = DistributedDataParallel(net)
    optimizer = subject.make(net, SGD, 0.3, lr=0.1, momentum=0.9)
    for step in range(STEPS):
        x, y = batch(step * COUNT + rank)
        calls: list[bool] = []

        def closure(x: Tensor = x, y: Tensor = y, calls: list[bool] = calls) -> Tensor:
            calls.append(True)
            optimizer.zero_grad()
            with wrapped.no_sync() if local and len(calls) == 1 else contextlib.nullcontext():
                loss = F.cross_entropy(wrapped(x), y)
                loss.backward()  # type: ignore[no-untyped-call]
            return loss

        subject.style.step(optimizer, closure)
    torch.save(net.state_dict(), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
