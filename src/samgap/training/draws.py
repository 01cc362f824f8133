"""Whether a pass may draw random numbers (dropout), which both passes of SAM must share.

Watching passes does not tell: a net may draw in its thousandth pass for the first time. So a pass draws nothing only if
all code in it is known to.
"""

from collections.abc import Callable, Iterable
from typing import Any

from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from samgap import losses
from samgap.pruning.mask import Masked

KNOWN = {  # exact classes: a subclass may do anything
    "samgap.models.factorization.Factorization", "samgap.models.mlp.MLP", "samgap.models.resnet18.ResNet18",
    "samgap.models.resnet50.ResNet50", "timm.models.resnet.BasicBlock", "timm.models.resnet.Bottleneck",
    *(f"{one.__module__}.{one.__name__}" for one in (
        nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Conv2d, nn.Flatten, nn.GELU,
        nn.GroupNorm, nn.Identity, nn.LayerNorm, nn.Linear, nn.MaxPool2d, nn.ModuleList, nn.ReLU, nn.Sequential,
        nn.SyncBatchNorm,
    )),
}  # fmt: skip
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")  # of a module


def possible(net: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], callbacks: Iterable[Callback] = ()) -> bool:
    """Return whether a forward or backward pass may draw random numbers.

    Args:
        net, loss: what a pass computes.
        callbacks: Lightning's, which can act in each backward pass.
    """
    function: Any = getattr(loss, "func", loss)  # of a partial
    names = ("on_before_backward", "on_after_backward")
    acting = any(getattr(type(one), name) is not getattr(Callback, name) for one in callbacks for name in names)
    acting = acting or _has_any_global_hook()  # type: ignore[no-untyped-call]
    return function.__module__ != losses.__name__ or acting or any(map(_unknown, net.modules()))


def _unknown(part: nn.Module) -> bool:
    """Return whether a module, without its children, has code that is not known."""
    kind, own = type(part), vars(part)
    added = [own.get("forward"), *(own[name] for name in HOOKS)]
    for weight in part.parameters(recurse=False):
        hooks = (weight._backward_hooks or {}).values()
        added += [weight._post_accumulate_grad_hooks, *(hook for hook in hooks if not isinstance(hook, Masked))]
    return f"{kind.__module__}.{kind.__name__}" not in KNOWN or any(added)
