"""The class under test, its adapter, and its correct ascent."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from samgap.conformance.adapters import Adapter, Dicts, Own, adapter, line, load


def _normalized(gradients: list[Tensor], rho: float) -> list[Tensor]:
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return [rho * g / norm for g in gradients]


# Name -> the correct eps as a function of the gradients at w and rho; "other" skips the checks that need it.
ASCENTS: dict[str, Callable[[list[Tensor], float], list[Tensor]] | None] = {
    "sam": _normalized,
    "unnormalized": lambda gradients, rho: [rho * g for g in gradients],
    "other": None,
}


@dataclass(frozen=True)
class Subject:
    """A class with its adapter, as plain values that can be sent to other processes."""

    target: str  # "package.module:Class"
    adapter: str  # a key of ADAPTERS, or "package.module:Class"
    ascent: str = "sam"  # a key of ASCENTS
    own: Mapping[str, Any] = field(default_factory=dict)  # further keyword arguments of the class

    @property
    def kind(self) -> type:
        """The class under test."""
        return load(self.target)

    @property
    def style(self) -> Adapter:
        """The adapter of the class."""
        return adapter(self.adapter)

    def make(
        self,
        net: nn.Module,
        base: type[Optimizer],
        rho: float,
        groups: Dicts | None = None,
        **options: Any,
    ) -> Any:
        """Make an optimizer over `groups`, by default all parameters of the net; `options` are the base's."""
        groups = groups or [{"params": list(net.parameters())}]
        return self.style.make(self.kind, net, base, groups, rho, own=self.own, **options)


def subject_for(target: str, ascent: str, own: Own, name: str | None) -> Subject:
    """Return the class with the adapter `name`, or with the first that fits its constructor, methods and a trial step.

    Raises:
        ValueError: the class cannot be imported, or the adapter cannot construct or step it.
    """
    kind = load(target)
    if name is not None:
        adapter(name)
    guesses = _guesses(kind) if name is None else (name,)
    for guess in guesses:
        subject = Subject(target, guess, ascent, own)
        try:
            passes = _passes(subject)
        except Exception as error:
            if guess == guesses[-1]:
                raise ValueError(
                    f"the adapter {guess!r} does not fit {target} ({line(error)}): name another with --adapter, or "
                    "give what the class needs with --own."
                ) from error
        else:
            if passes >= 2 or guess == guesses[-1]:
                break
    return subject


def _guesses(kind: type) -> tuple[str, ...]:
    try:
        first = next(iter(inspect.signature(kind).parameters), "")
    except ValueError:  # a built-in class; the trial step explains
        first = ""
    params = first.startswith("param")
    if hasattr(kind, "first_step") and hasattr(kind, "second_step"):
        return ("two-step" if params else "wrapper-two-step",)
    # The closure may be for both passes or for the second alone.
    return ("closure", "backward-closure") if params else ("wrapper",)


def _passes(subject: Subject) -> int:
    # Return the number of passes in one step.
    net, calls = nn.Linear(2, 1), 0
    optimizer = subject.make(net, SGD, 0.05, lr=0.1)

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss: Tensor = net(torch.ones(1, 2)).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    subject.style.step(optimizer, closure)
    return calls
