"""Hooks of a user's or of a library around passes and steps. Only an eager step calls them."""

from collections.abc import Callable, Iterable

from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.nn.modules.module import _has_any_global_hook
from torch.optim import Optimizer

from samgap.pruning.mask import Masked

OF_MODULE = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# Of the hooks in a step, Lightning calls only these with manual optimization.
OF_CALLBACK = ("on_before_backward", "on_after_backward")


def any_of_module(part: nn.Module) -> bool:
    """Return whether a module, without its children, or one of its parameters has hooks other than those of masks."""
    found = [getattr(part, name) for name in OF_MODULE]
    for weight in part.parameters(recurse=False):
        hooks = (weight._backward_hooks or {}).values()
        found += [weight._post_accumulate_grad_hooks, *(hook for hook in hooks if not isinstance(hook, Masked))]
    return any(found)


def any_of_net(net: nn.Module) -> bool:
    """Return whether a net, any of its parameters, or all of torch's modules have hooks other than those of masks."""
    has_global: bool = _has_any_global_hook()  # type: ignore[no-untyped-call]
    return has_global or any(map(any_of_module, net.modules()))


def any_of_callbacks(callbacks: Iterable[Callback]) -> bool:
    """Return whether a callback has a hook before or after the backward pass, by its class or set on the object."""
    pairs = ((getattr(callback, name), getattr(Callback, name)) for callback in callbacks for name in OF_CALLBACK)
    return any(getattr(hook, "__func__", hook) is not unset for hook, unset in pairs)


def any_of_optimizers(optimizers: Iterable[Optimizer], own: Callable[..., object]) -> bool:
    """Return whether an optimizer has hooks around its step other than the method `own` of an object."""
    names = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    found = [hook for one in optimizers for name in names for hook in getattr(one, name).values()]
    return any(getattr(hook, "__func__", hook) is not own for hook in found)
