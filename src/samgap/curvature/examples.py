"""The data that curvature is measured on, in a fixed order, and a context that leaves the net unchanged.

N is the number of examples, B that of a block, C that of classes, or of outputs if labels are regression targets.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from samgap.errors import SettingError, said

Loss = Callable[[Tensor, Tensor], Tensor]  # of logits (B, C) and labels, mean over the B examples


@dataclass(frozen=True, eq=False)  # tensors have no truth value
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
        """The examples in order, `size` at a time, on the device and in the precision of `like`.

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
    masks: Mapping[str, Tensor] = field(default_factory=dict)  # of a sparse net, see `Coordinates.of`

    def first(self, count: int | None) -> Examples:
        """The first `count` examples; all for None.

        Raises:
            SettingError: there are fewer.
        """
        whole = len(self.examples)
        if count is None:
            return self.examples
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= whole:
            raise SettingError(
                f"A probe's examples must be a number from 1 to the {whole} trained on, got {said(count)}."
            )
        return Examples(self.examples.inputs[:count], self.examples.labels[:count])


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Put `net` into evaluation mode; at the end, restore the mode of each module, all buffers and the random state.

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
