"""Whether a forward or backward pass may draw random numbers, as dropout does. Both passes of SAM must share them.

Observing passes is not enough, since a net may draw for the first time in its thousandth pass. So the answer is no only
if all code of the pass is on a list of known code.
"""

from collections.abc import Callable, Iterable
from typing import Any

from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from samgap import losses
from samgap.training import hooks

KNOWN = {  # exact classes: a subclass may do anything
    "samgap.models.factorization.Factorization", "samgap.models.mlp.MLP", "samgap.models.resnet18.ResNet18",
    "samgap.models.resnet50.ResNet50", "timm.models.resnet.BasicBlock", "timm.models.resnet.Bottleneck",
    *(f"{layer.__module__}.{layer.__name__}" for layer in (
        nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Conv2d, nn.Flatten, nn.GELU,
        nn.GroupNorm, nn.Identity, nn.LayerNorm, nn.Linear, nn.MaxPool2d, nn.ModuleList, nn.ReLU, nn.Sequential,
        nn.SyncBatchNorm,
    )),
}  # fmt: skip


def possible(net: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], callbacks: Iterable[Callback] = ()) -> bool:
    """Return whether a forward or backward pass may draw random numbers.

    Args:
        net, loss: the net and the loss function.
        callbacks: Lightning callbacks, which may have hooks before and after the backward pass.
    """
    function: Any = getattr(loss, "func", loss)  # the loss may be a functools.partial
    hooked = hooks.any_of_net(net) or hooks.any_of_callbacks(callbacks)
    return function.__module__ != losses.__name__ or hooked or any(map(_unknown, net.modules()))


def _unknown(part: nn.Module) -> bool:
    """Return whether a module, without its children, is not in `KNOWN` or has an overridden forward."""
    kind = type(part)
    return f"{kind.__module__}.{kind.__name__}" not in KNOWN or "forward" in vars(part)
