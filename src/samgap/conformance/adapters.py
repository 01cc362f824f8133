"""Adapters: how to construct an optimizer of one style, and how to take a step with it."""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

Dicts = list[dict[str, Any]]
Own = Mapping[str, Any]
Closure = Callable[[], Tensor]  # clears the gradients, computes loss and gradients at the current weights


class Adapter(ABC):
    """How to use optimizers of one style. For another style, write an adapter and pass --adapter module:Class."""

    runs_passes = True  # whether the class calls the closure for the second pass itself, and can handle its errors

    def make(
        self, kind: type, net: nn.Module, base: type[Optimizer], groups: Dicts, rho: float, own: Own, **options: Any
    ) -> Any:
        """Construct an optimizer: `SAM(base_optimizer, rho=..., module=net)`, without net if the class takes none.

        Args:
            kind: the class under test.
            net: the net to train; `groups` has its parameters.
            base: class of the base optimizer; `options` are its arguments.
            groups: parameter groups.
            rho: radius of the ascent.
            own: further keyword arguments of `kind`.
        """
        names = inspect.signature(kind).parameters
        nets = {name: net for name in ("module", "model", "net") if name in names}
        return kind(base(groups, **options), rho=rho, **nets, **own)

    @abstractmethod
    def step(self, optimizer: Any, closure: Closure) -> Any:
        """Take one complete step, with both passes; return what the optimizer returns."""


class WrapperClosure(Adapter):
    """`SAM(base_optimizer, rho=...)`, and `step(closure)` calls the closure for both passes."""

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """See `Adapter`."""
        return optimizer.step(closure)


class WrapperTwoStep(Adapter):
    """`SAM(base_optimizer, rho=...)`, and `first_step()` and `second_step()`, each after a backward pass."""

    runs_passes = False

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """See `Adapter`."""
        closure()
        optimizer.first_step(zero_grad=True)
        closure()
        optimizer.second_step(zero_grad=True)


class ParamsClosure(WrapperClosure):
    """`SAM(params, Base, rho=..., **base_options)`, and `step(closure)` calls the closure for both passes."""

    def make(
        self, kind: type, net: nn.Module, base: type[Optimizer], groups: Dicts, rho: float, own: Own, **options: Any
    ) -> Any:
        """See `Adapter`."""
        return kind(groups, base, rho=rho, **own, **options)


class ParamsBackwardClosure(ParamsClosure):
    """The same constructor; a backward pass, then `step(closure)` calls the closure for the second pass."""

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """See `Adapter`."""
        closure()
        return optimizer.step(closure)


class ParamsTwoStep(WrapperTwoStep):
    """The same constructor, and `first_step()` and `second_step()`, each after a backward pass."""

    make = ParamsClosure.make


ADAPTERS: dict[str, type[Adapter]] = {
    "wrapper": WrapperClosure,
    "wrapper-two-step": WrapperTwoStep,
    "closure": ParamsClosure,
    "backward-closure": ParamsBackwardClosure,
    "two-step": ParamsTwoStep,
}


def load(path: str) -> type:
    """Import and return the class at "package.module:Class".

    Raises:
        ValueError: there is no such class, or its import fails.
    """
    module, _, name = path.partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # importing runs arbitrary code
        raise ValueError(
            f"expected package.module:Class of a module that Python finds, and {path!r} cannot be imported "
            f"({line(error)})."
        ) from error
    if not isinstance(kind, type):
        raise ValueError(f"expected package.module:Class, and {path!r} is no class.")
    return kind


def adapter(name: str) -> Adapter:
    """Return an adapter with this name in `ADAPTERS`, or of the class at this path.

    Raises:
        ValueError: there is no such adapter, or it cannot be constructed without arguments.
    """
    kind = ADAPTERS.get(name)
    if kind is None and ":" not in name:
        raise ValueError(f"expected an adapter ({', '.join(ADAPTERS)}, or package.module:Class), got {name!r}.")
    kind = kind or load(name)
    if not issubclass(kind, Adapter):
        raise ValueError(f"expected an adapter, and {name!r} is no samgap.conformance.adapters.Adapter.")
    try:
        return kind()
    except Exception as error:
        raise ValueError(f"expected an adapter, and {name!r} cannot be made ({line(error)}).") from error


def line(error: BaseException) -> str:
    """Return the type and the message of an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
