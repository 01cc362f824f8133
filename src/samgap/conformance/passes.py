"""Checks of side effects of a second pass: on statistics, dropout, autocast, unused parameters, and after errors."""

import contextlib
import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from samgap.conformance.fixtures import RHO, advance, batch, copies, layers, module, norm, observe, same, train
from samgap.conformance.properties import NotApplicable, Outcome, register
from samgap.conformance.subject import Subject


@register("batch norm's statistics", "those of the first pass, counted once")
def statistics(subject: Subject) -> Outcome:
    """Running mean, variance and batch count are updated once."""
    net = layers(noisy=True)
    once = copy.deepcopy(net)
    once(batch(0)[0])
    train(subject, net, subject.make(net, SGD, 5.0, lr=0.1), 1)
    buffers = list(zip(once.named_buffers(), net.buffers(), strict=True))
    wrong = [name.split(".")[-1] for (name, a), b in buffers if not torch.equal(a, b)]
    return Outcome(f"wrong: {', '.join(wrong)}" if wrong else "as after one pass", not wrong)


@register("batch norm goes on", "statistics move in the next step too")
def statistics_go_on(subject: Subject) -> Outcome:
    """If batch norm's momentum were set to 0 and not restored, its statistics would stay constant."""
    net = layers(noisy=True)
    optimizer = subject.make(net, SGD, 0.1, lr=0.1)
    train(subject, net, optimizer, 1)
    mean = net[1].running_mean.clone()
    train(subject, net, optimizer, 1, first=1)
    moved = not torch.equal(mean, net[1].running_mean)
    return Outcome("moving" if moved else "frozen", moved)


@register("dropout", "one mask for both passes, another in the next step")
def dropout(subject: Subject) -> Outcome:
    """A new mask changes the gradient by more than SAM does."""
    net = module(weight=torch.ones(1000))
    torch.manual_seed(3)
    optimizer = subject.make(net, SGD, RHO, lr=0.1)
    masks = []

    def loss() -> Tensor:
        kept = F.dropout(net.weight, 0.5)
        masks.append(kept.detach() != 0)
        return kept.sum()

    for _ in range(2):
        advance(subject, optimizer, loss)
    shared = float((masks[0] == masks[1]).float().mean())
    new = not torch.equal(masks[1], masks[2])
    return Outcome(f"{100 * shared:.0f} % shared, next step {'another' if new else 'the same'}", shared == 1 and new)


@register("autocast around the step", "the second pass sees the perturbed weights")
def autocast(subject: Subject) -> Outcome:
    """Autocast caches low-precision copies of weights for a whole block."""
    torch.manual_seed(0)
    net = nn.Linear(8, 8)
    x = torch.ones(4, 8)
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        step = observe(subject, net, lambda: net(x).float().square().mean(), rho=5.0)
    first, second = step.losses
    return Outcome(f"loss {first:.3g}, then {second:.3g}", second > first)


@register("a parameter that has no gradient", "stays where it is")
def unused(subject: Subject) -> Outcome:
    """An unused head must not move."""
    net = module(used=torch.ones(2), unused=torch.ones(2))
    step = observe(subject, net, lambda: net.used.square().sum(), lr=0.1)
    away = norm([step.second[1] - 1, step.after[1] - 1])
    return Outcome(f"{away:.3g} away", away == 0)


@register("a parameter without gradient in pass 2", "comes back")
def dropped(subject: Subject) -> Outcome:
    """Stochastic depth: restoring only parameters with a gradient leaves this one perturbed."""
    net = module(used=torch.ones(2), sometimes=torch.ones(2))
    calls = iter((True, False))
    step = observe(subject, net, lambda: net.used.square().sum() + (net.sometimes.square().sum() if next(calls) else 0))
    away = norm([step.after[1] - 1])
    return Outcome(f"{away:.3g} away", away == 0)


@register("an error in pass 2", "leaves the weights as they were")
def error(subject: Subject) -> Outcome:
    """Possible causes are lack of memory, Ctrl-C, or a bad batch."""
    if not subject.style.runs_passes:
        raise NotApplicable("the caller runs pass 2")
    net = layers(noisy=True)
    optimizer = subject.make(net, SGD, 0.3, lr=0.1)
    before, calls = copies(list(net.parameters())), []

    def loss() -> Tensor:
        calls.append(True)
        if len(calls) == 2:
            raise MemoryError
        return F.cross_entropy(net(batch(0)[0]), batch(0)[1])

    with contextlib.suppress(MemoryError):
        advance(subject, optimizer, loss)
    away = norm([a - b for a, b in zip(before, copies(list(net.parameters())), strict=True)])
    return Outcome(f"{away:.3g} away", away == 0)


@register("a gradient of inf or nan", "the base steps from the weights as they were")
def not_finite(subject: Subject) -> Outcome:
    """Subtracting eps would leave nan; only a copy can restore the weights."""
    restored = []
    for value in (float("inf"), float("nan")):
        net = module(weight=torch.ones(3))
        step = observe(subject, net, lambda net=net, value=value: (net.weight * value).sum())  # type: ignore[misc]
        restored.append(all(same(weights, step.before) for weights in step.seen))
    return Outcome(", ".join("as they were" if kept else "lost" for kept in restored), all(restored))
