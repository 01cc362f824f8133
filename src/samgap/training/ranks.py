"""Several processes for one run, one per device: the rank of this process, and sums over ranks.

torchrun starts the processes and Lightning connects them. Gradients are summed by this module and not by DDP's wrapper,
which averages over all ranks: an ascent over m examples may need a sum over all ranks, over some of them, or none.
"""

import os
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from samgap.errors import SettingError
from samgap.pruning import mask
from samgap.pruning.mask import Masks

T = TypeVar("T")


def rank() -> int:
    """Return the rank of this process, 0 if it is the only one."""
    return int(os.environ.get("RANK", 0))


def nodes() -> int:
    """Return the number of machines, each with the same number of processes."""
    return int(os.environ.get("WORLD_SIZE", 1)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def environment() -> ClusterEnvironment:
    """Return Lightning's description of the processes: those of torchrun, or only this one.

    By default Lightning assumes that Slurm launched them if it detects Slurm, and warns if they do not match.
    """
    return TorchElasticEnvironment() if "RANK" in os.environ else LightningEnvironment()


def require(devices: int) -> None:
    """Check that the number of devices is the number of processes.

    Raises:
        SettingError: the numbers differ, or the variable RANK is wrong.
    """
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if processes == 1 and devices > 1:
        raise SettingError(f"trainer.devices={devices} needs a process each: {command(devices)} ...")
    if processes != devices:
        raise SettingError(f"{processes} processes were started for one run: set trainer.devices={processes}.")
    if not rank() < processes:
        raise SettingError(f"The variable RANK must be below WORLD_SIZE ({processes}), got {rank()}: unset both.")


def command(devices: int) -> str:
    """Return the command that starts a run on `devices` devices."""
    return f"torchrun --nproc_per_node={devices} -m samgap.train trainer.devices={devices}"


class UnwrappedDDP(DDPStrategy):
    """Lightning's DDP strategy without DDP's wrapper around the net."""

    def configure_ddp(self) -> None:
        """Leave the net unwrapped."""


class Ranks:
    """Sums over the ranks that share an ascent, and over all ranks of a run."""

    def __init__(self, span: int) -> None:
        """
        Args:
            span: number of ranks that share an ascent group.
        """
        self.joined = dist.is_initialized()
        self.number = dist.get_rank() if self.joined else 0
        self.count = dist.get_world_size() if self.joined else 1
        self.span = span
        self._group: Any = None  # the ranks that share this rank's ascent; None for all
        if 1 < span < self.count:
            # torch requires that every rank creates every group.
            groups = [dist.new_group(list(range(first, first + span))) for first in range(0, self.count, span)]
            self._group = groups[self.number // span]

    def broadcast(self, net: nn.Module, masks: Masks) -> None:
        """Copy weights and masks of rank 0 to all ranks: machines may round pruning scores differently."""
        if self.joined:
            kept = [masks]
            dist.broadcast_object_list(kept)
            mask.load(masks, kept[0])
            for tensor in (*net.parameters(), *net.buffers()):
                dist.broadcast(tensor.detach(), 0)

    def sum_group(self, weights: list[Tensor], loss: Tensor) -> Tensor:
        """Sum gradients and loss over the ranks that share an ascent group; return the loss."""
        return _sum_gradients(weights, loss, self._group) if self.span > 1 else loss

    def sum_all(self, weights: list[Tensor]) -> None:
        """Sum gradients over all ranks, unless `sum_group` has already done so."""
        if self.span < self.count:
            _sum_gradients(weights, torch.zeros((), device=weights[0].device), None)

    def sums(self, *values: float) -> list[float]:
        """Return the sum of each value over all ranks."""
        if not self.joined:
            return list(values)
        device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
        total = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return total.tolist()

    def average_statistics(self, net: nn.Module) -> None:
        """Average batch norm's running statistics over all ranks, as the official code does before evaluation.

        They are linear in the statistics of the batches, so averaging once per epoch equals averaging in every step.
        """
        if self.joined:
            for buffer in net.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer /= self.count

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in order."""
        if not self.joined:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values


def _sum_gradients(weights: list[Tensor], loss: Tensor, group: Any) -> Tensor:
    # One transfer: which weights have a gradient, the loss, the gradients. A weight that has no gradient on any rank
    # must not get a gradient of 0, with which weight decay would change it.
    like = weights[0]
    present = torch.ones(len(weights), dtype=like.dtype, device=like.device)
    for number, w in enumerate(weights):
        if w.grad is None:
            present[number] = 0
    parts = [(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in weights]
    flat = torch.cat([present, loss.detach().to(present).view(1), *parts])
    dist.all_reduce(flat, group=group)
    # Reading `flat` synchronizes the device, so it is read only if this rank lacks a gradient.
    lacks = any(w.grad is None for w in weights)
    counts = flat[: len(weights)].tolist() if lacks else [1.0] * len(weights)
    gradients = torch.split(flat[len(weights) + 1 :], [w.numel() for w in weights])
    for w, gradient, count in zip(weights, gradients, counts, strict=True):
        w.grad = gradient.view_as(w) if count else None
    return flat[len(weights)]
