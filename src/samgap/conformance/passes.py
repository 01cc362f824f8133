"""What a second pass can disturb: statistics, dropout, precision, parameters that come and go, errors."""

import contextlib
import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from samgap.conformance.lab import RHO, NotApplicable, bag, batch, copies, layers, norm, observe, same, train
from samgap.conformance.properties import Found, wanted
from samgap.conformance.subject import Subject


@wanted("batch norm's statistics", "those of the first pass, counted once")
def statistics(subject: Subject) -> Found:
    """Running mean, variance and count."""
    net = layers(noisy=True)
    once = copy.deepcopy(net)
    once(batch(0)[0])
    train(subject, net, subject.make(net, SGD, 5.0, lr=0.1), 1)
    buffers = list(zip(once.named_buffers(), net.buffers(), strict=True))
    wrong = [name.split(".")[-1] for (name, a), b in buffers if not torch.equal(a, b)]
    return Found(f"wrong: {', '.join(wrong)}" if wrong else "as after one pass", not wrong)


@wanted("batch norm goes on", "statistics move in the next step too")
def statistics_go_on(subject: Subject) -> Found:
    """A momentum put to 0 and never back would freeze them."""
    net = layers(noisy=True)
    optimizer = subject.make(net, SGD, 0.1, lr=0.1)
    train(subject, net, optimizer, 1)
    mean = net[1].running_mean.clone()
    train(subject, net, optimizer, 1, first=1)
    moved = not torch.equal(mean, net[1].running_mean)
    return Found("moving" if moved else "frozen", moved)


@wanted("dropout", "one mask for both passes, another in the next step")
def dropout(subject: Subject) -> Found:
    """A fresh mask turns the gradient by more than SAM does."""
    net = bag(weight=torch.ones(1000))
    torch.manual_seed(3)
    optimizer = subject.make(net, SGD, RHO, lr=0.1)
    masks = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        kept = F.dropout(net.weight, 0.5)
        masks.append(kept.detach() != 0)
        loss = kept.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    subject.style.step(optimizer, closure)
    subject.style.step(optimizer, closure)
    shared = float((masks[0] == masks[1]).float().mean())
    fresh = not torch.equal(masks[1], masks[2])
    return Found(f"{100 * shared:.0f} % shared, next step {'another' if fresh else 'the same'}", shared == 1 and fresh)


@wanted("autocast around the step", "the second pass sees the perturbed weights")
def autocast(subject: Subject) -> Found:
    """Autocast keeps low-precision copies of weights for a whole block."""
    torch.manual_seed(0)
    net = nn.Linear(8, 8)
    x = torch.ones(4, 8)
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        step = observe(subject, net, lambda: net(x).float().square().mean(), rho=5.0)
    here, there = step.losses
    return Found(f"loss {here:.3g}, then {there:.3g}", there > here)


@wanted("a parameter that has no gradient", "stays where it is")
def unused(subject: Subject) -> Found:
    """An unused head."""
    net = bag(used=torch.ones(2), unused=torch.ones(2))
    step = observe(subject, net, lambda: net.used.square().sum(), lr=0.1)
    away = norm([step.second[1] - 1, step.after[1] - 1])
    return Found(f"{away:.3g} away", away == 0)


@wanted("a parameter without gradient in pass 2", "comes back")
def dropped(subject: Subject) -> Found:
    """Stochastic depth; restoring only what has a gradient leaves it perturbed."""
    net = bag(used=torch.ones(2), sometimes=torch.ones(2))
    calls = iter((True, False))
    step = observe(subject, net, lambda: net.used.square().sum() + (net.sometimes.square().sum() if next(calls) else 0))
    away = norm([step.after[1] - 1])
    return Found(f"{away:.3g} away", away == 0)


@wanted("an error in pass 2", "leaves the weights as they were")
def error(subject: Subject) -> Found:
    """Out of memory, Ctrl-C, a batch that fails."""
    if not subject.style.between:
        raise NotApplicable("the caller runs pass 2")
    net = layers(noisy=True)
    optimizer = subject.make(net, SGD, 0.3, lr=0.1)
    before, calls = copies(list(net.parameters())), []

    def closure() -> Tensor:
        calls.append(True)
        if len(calls) == 2:
            raise MemoryError
        optimizer.zero_grad()
        loss = F.cross_entropy(net(batch(0)[0]), batch(0)[1])
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with contextlib.suppress(MemoryError):
        subject.style.step(optimizer, closure)
    away = norm([a - b for a, b in zip(before, copies(list(net.parameters())), strict=True)])
    return Found(f"{away:.3g} away", away == 0)


@wanted("a gradient of inf or nan", "the base steps from the weights as they were")
def not_finite(subject: Subject) -> Found:
    """Restored by copy, or lost for good."""
    came = []
    for value in (float("inf"), float("nan")):
        net = bag(weight=torch.ones(3))
        step = observe(subject, net, lambda net=net, value=value: (net.weight * value).sum())  # type: ignore[misc]
        came.append(all(same(weights, step.before) for weights in step.seen))
    return Found(", ".join("as they were" if kept else "lost" for kept in came), all(came))
