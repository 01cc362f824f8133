"""The data on which curvature is measured, in a fixed order, and a context that restores the net.

There are N examples, B in a block, and C classes, or outputs if labels are regression targets.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from samgap.errors import SettingError, said

Loss = Callable[[Tensor, Tensor], Tensor]  # of logits (B, C) and labels, mean over the B examples


@dataclass(frozen=True, eq=False)  # compared by identity: == of tensors is a tensor and not a bool
class Examples:
    """Examples with inputs that are ready for the net."""

    inputs: Tensor  # (N, ...)
    labels: Tensor  # (N,) class numbers, or (N, C) targets

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.labels) or len(self.labels) == 0:
            raise SettingError(
                "Curvature needs as many inputs as labels and at least one, "
                f"got {len(self.inputs)} and {len(self.labels)}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def blocks(self, size: int, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the examples in order, `size` at a time, on the device and in the precision of `like`.

        Raises:
            SettingError: size is below 1.
        """
        if size < 1:
            raise SettingError(f"Blocks of examples must have a size of at least 1, got {said(size)}.")
        for start in range(0, len(self), size):
            inputs, labels = self.inputs[start : start + size], self.labels[start : start + size]
            yield inputs.to(like.device, like.dtype), labels.to(like.device)


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained net and its training examples in a fixed order; the loss is the mean over them."""

    net: nn.Module
    loss: Loss
    examples: Examples
    masks: Mapping[str, Tensor] = field(default_factory=dict)  # empty for a dense net, see `Coordinates.of`

    def first(self, count: int | None) -> Examples:
        """Return the first `count` examples; all for None.

        Raises:
            SettingError: there are fewer, or `count` is not a positive whole number.
        """
        available = len(self.examples)
        if count is None:
            return self.examples
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= available:
            raise SettingError(
                f"A probe's examples must be a number from 1 to the {available} trained on, got {said(count)}."
            )
        return Examples(self.examples.inputs[:count], self.examples.labels[:count])


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Put `net` into evaluation mode; at exit, restore the mode of each module, all buffers and the random state.

    Raises:
        SettingError: a batch norm has no running statistics, so the loss of an example would depend on its block.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise SettingError(f"Curvature needs the running statistics of batch norm {name!r}, which keeps none.")
    # Each module has its own mode: some may be in evaluation mode while the net trains.
    modes = [(module, module.training) for module in net.modules()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in net.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    devices = sorted({weight.get_device() for weight in net.parameters() if weight.is_cuda})
    try:
        with torch.random.fork_rng(devices=devices):
            net.eval()
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, name, buffer, value in buffers:
            module._buffers[name] = buffer  # a forward pass may have replaced the tensor
            with torch.no_grad():
                buffer.copy_(value)
