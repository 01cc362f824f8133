"""SAM against closed forms, limits and invariants. Traps (docs/traps.md) are named where a test guards one."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from samgap.optim.sam import SAM, global_norm
from samgap.optim.sam_unnormalized import SAMUnnormalized

VARIANTS: list[type[SAM]] = [SAM, SAMUnnormalized]


def quadratic(matrix: Tensor, weights: list[Tensor], optimizer: Optimizer) -> Callable[[], Tensor]:
    """Closure of L(w) = w' A w / 2 over the concatenation of `weights`."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        w = torch.cat(weights)
        loss = 0.5 * w @ matrix @ w
        loss.backward()
        return loss

    return closure


def problem() -> tuple[Tensor, list[nn.Parameter]]:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    w = torch.randn(5, generator=generator, dtype=torch.float64)
    return root @ root.T, [nn.Parameter(w[:2].clone()), nn.Parameter(w[2:].clone())]


@pytest.mark.parametrize("normalized", [True, False])
def test_a_quadratic_follows_the_closed_form(normalized: bool) -> None:
    # g = A w, eps = rho g / |g| (or rho g), v = mu v + A (w + eps) + lambda w, w = w - eta v
    matrix, weights = problem()
    eta, mu, decay, rho = 0.03, 0.9, 0.01, 0.1
    base = SGD(weights, lr=eta, momentum=mu, weight_decay=decay)
    optimizer = (SAM if normalized else SAMUnnormalized)(base, rho)
    w, v = torch.cat([p.detach().clone() for p in weights]), torch.zeros(5, dtype=torch.float64)
    for _ in range(25):
        loss = optimizer.step(quadratic(matrix, weights, optimizer))
        assert loss.item() == pytest.approx((0.5 * w @ matrix @ w).item(), rel=1e-12)
        g = matrix @ w
        eps = rho * g / g.norm() if normalized else rho * g
        v = mu * v + matrix @ (w + eps) + decay * w
        w = w - eta * v
        torch.testing.assert_close(torch.cat([p.detach() for p in weights]), w, rtol=1e-12, atol=1e-13)


def noisy_net() -> nn.Module:
    """Everything that a second pass could disturb: batch norm, dropout, momentum."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    )


def batch_closure(net: nn.Module, optimizer: Any, step: int) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(12, 6, generator=generator)
    y = torch.randint(0, 3, (12,), generator=generator)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return loss

    return closure


def train(net: nn.Module, optimizer: Any, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        optimizer.step(batch_closure(net, optimizer, step))


def equal_states(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a) and a.keys() == b.keys()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "make", [lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3), lambda p: Adam(p, lr=0.01)]
)
def test_rho_zero_is_the_base_bit_for_bit(variant: type[SAM], make: Callable[[Any], Optimizer]) -> None:
    # Batch norm once (T4, T6), same dropout mask (T7), no loss in restoring (T3): anything else would show here.
    plain, wrapped = noisy_net(), noisy_net()
    base = make(plain.parameters())
    sam = variant(make(wrapped.parameters()), 0.0, module=wrapped)
    torch.manual_seed(1)
    train(plain, base, 20)
    torch.manual_seed(1)
    train(wrapped, sam, 20)
    assert equal_states(plain.state_dict(), wrapped.state_dict())


class Spy(SAM):
    """Keeps what the ascent was."""

    eps: list[Tensor]

    def ascent(self, gradients: list[Tensor]) -> list[Tensor]:
        self.eps = super().ascent(gradients)
        return self.eps


@pytest.mark.parametrize("rho", [0.01, 0.5, 3.0])
def test_the_ascent_has_length_rho_along_the_gradient(rho: float) -> None:
    matrix, weights = problem()
    optimizer = Spy(SGD(weights, lr=0.1), rho)
    gradient = matrix @ torch.cat([w.detach() for w in weights])
    optimizer.step(quadratic(matrix, weights, optimizer))
    eps = torch.cat(optimizer.eps)
    assert eps.norm().item() == pytest.approx(rho, rel=1e-12)
    torch.testing.assert_close(eps / rho, gradient / gradient.norm())


def test_a_tiny_gradient_still_gives_the_full_ascent() -> None:
    # T8: an epsilon in the denominator would shrink rho just where nets interpolate.
    weight = nn.Parameter(torch.tensor([1e-9, 0.0]))
    optimizer = Spy(SGD([weight], lr=0.0), 0.1)
    optimizer.step(quadratic(torch.eye(2), [weight], optimizer))
    assert torch.cat(optimizer.eps).norm().item() == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_zero_gradient_gives_no_ascent_and_no_nan(variant: type[SAM]) -> None:
    weights = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))]
    optimizer = variant(SGD(weights, lr=0.1), 0.1)
    optimizer.step(quadratic(torch.eye(5), weights, optimizer))
    assert not any(w.any() for w in weights)


def test_weight_decay_stays_out_of_the_ascent() -> None:
    # T9: near interpolation the decay term would dominate the direction.
    matrix, weights = problem()
    optimizer = Spy(SGD(weights, lr=0.1, weight_decay=100.0), 0.1)
    gradient = matrix @ torch.cat([w.detach() for w in weights])
    optimizer.step(quadratic(matrix, weights, optimizer))
    torch.testing.assert_close(torch.cat(optimizer.eps), 0.1 * gradient / gradient.norm())


def test_weights_come_back_bit_for_bit() -> None:
    # T3: lr 0 leaves nothing but ascent and restoration, 200 times over.
    net = noisy_net().to(torch.bfloat16)
    before = copy.deepcopy(list(net.parameters()))
    optimizer = SAM(SGD(net.parameters(), lr=0.0), 0.3, module=net)
    for _ in range(200):

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = net(torch.ones(4, 6, dtype=torch.bfloat16)).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_weights_that_change_their_precision_come_back_exactly() -> None:
    net = noisy_net()
    optimizer = SAM(SGD(net.parameters(), lr=0.0), 0.3, module=net)
    optimizer.step(batch_closure(net, optimizer, 0))
    weight = nn.Parameter(torch.full((3,), 0.1))
    optimizer = SAM(SGD([weight], lr=0.0), 0.3)
    for dtype in (torch.float32, torch.float64):
        weight.data = torch.full((3,), 0.1, dtype=dtype)
        optimizer.zero_grad()
        optimizer.step(quadratic(torch.eye(3, dtype=dtype), [weight], optimizer))
        assert torch.equal(weight, torch.full((3,), 0.1, dtype=dtype))


def test_the_second_pass_sees_the_perturbed_weights_under_autocast() -> None:
    # Autocast keeps low-precision copies of weights for the length of its block.
    torch.manual_seed(0)
    net = nn.Linear(8, 8)
    optimizer = SAM(SGD(net.parameters(), lr=0.1), 5.0, module=net)
    losses = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = net(torch.ones(4, 8)).float().square().mean()
        losses.append(loss.item())
        loss.backward()
        return loss

    with torch.autocast("cpu", dtype=torch.bfloat16):
        optimizer.step(closure)
    assert losses[1] > 2 * losses[0]


def test_a_deep_copy_keeps_its_base() -> None:
    matrix, weights = problem()
    both = copy.deepcopy((weights, SAM(SGD(weights, lr=0.1, momentum=0.9), 0.2)))
    assert both[1].param_groups is both[1].base.param_groups
    both[1].step(quadratic(matrix, both[0], both[1]))
    assert not torch.equal(both[0][0], weights[0])


def test_a_second_pass_that_raises_leaves_everything_as_it_was() -> None:
    net = noisy_net()
    optimizer = SAM(SGD(net.parameters(), lr=0.1), 0.3, module=net)
    before = {
        key: value.clone() for key, value in net.state_dict().items() if "running" not in key and "num_" not in key
    }
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("out of memory")
        return batch_closure(net, optimizer, 0)()

    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(closure)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())
    assert net[1].track_running_stats


def test_running_statistics_are_those_of_the_first_pass() -> None:
    # T4, T6: also the count of batches, which momentum 0 would raise.
    net = noisy_net()
    plain = copy.deepcopy(net)
    optimizer = SAM(SGD(net.parameters(), lr=0.1), 5.0, module=net)
    optimizer.step(batch_closure(net, optimizer, 0))
    generator = torch.Generator().manual_seed(0)
    plain(torch.randn(12, 6, generator=generator))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(net[1], name), getattr(plain[1], name))


def test_both_passes_see_the_same_dropout_mask() -> None:
    # T7
    torch.manual_seed(3)
    weight = nn.Parameter(torch.ones(1000))
    optimizer = SAM(SGD([weight], lr=0.1), 0.1)
    masks = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        kept = F.dropout(weight, 0.5)
        masks.append(kept.detach() != 0)
        loss = kept.sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    optimizer.step(closure)
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[2], masks[3])
    assert not torch.equal(masks[0], masks[2])


def test_a_parameter_without_gradient_stays_put() -> None:
    # T4, T5: one that has a gradient only in the first pass, one that never has one.
    used, sometimes, never = (nn.Parameter(torch.ones(2)) for _ in range(3))
    optimizer = SAM(SGD([used, sometimes, never], lr=0.1), 0.1)
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = used.square().sum() + (sometimes.square().sum() if calls % 2 else 0)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(sometimes, torch.ones(2))
    assert torch.equal(never, torch.ones(2))
    assert not torch.equal(used, torch.ones(2))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_gradient_that_is_no_number_does_not_move_the_weights_before_the_base_step(value: float) -> None:
    weight = nn.Parameter(torch.ones(3))
    seen: list[Tensor] = []

    class Watcher(SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append(weight.detach().clone())
            return super().step(closure)

    optimizer = SAM(Watcher([weight], lr=0.1), 0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (weight * value).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(seen[0], torch.ones(3))


@pytest.mark.parametrize("variant", VARIANTS)
def test_momentum_survives_a_checkpoint(variant: type[SAM]) -> None:
    # T2
    def make() -> tuple[nn.Module, SAM]:
        net = noisy_net()
        return net, variant(SGD(net.parameters(), lr=0.1, momentum=0.9), 0.1, module=net)

    straight, sam = make()
    torch.manual_seed(1)
    train(straight, sam, 10)

    first, sam = make()
    torch.manual_seed(1)
    train(first, sam, 5)
    random = torch.get_rng_state()
    saved = copy.deepcopy((first.state_dict(), sam.state_dict()))
    second, sam = make()
    second.load_state_dict(saved[0])
    sam.load_state_dict(saved[1])
    torch.set_rng_state(random)
    train(second, sam, 5, first=5)
    assert equal_states(straight.state_dict(), second.state_dict())


def test_groups_and_state_are_the_base_s_own() -> None:
    net = noisy_net()
    base = SGD(net.parameters(), lr=0.1, momentum=0.9)
    sam = SAM(base, 0.1, module=net)

    def shared() -> bool:
        return sam.param_groups is base.param_groups and sam.state is base.state

    assert shared()
    train(net, sam, 1)
    sam.load_state_dict(copy.deepcopy(sam.state_dict()))
    assert shared()
    extra = nn.Parameter(torch.ones(2))
    sam.add_param_group({"params": [extra], "lr": 0.5})
    assert base.param_groups[1]["lr"] == 0.5
    assert base.param_groups[1]["momentum"] == 0.9
    assert not any("eps" in key or "rho" in key for state in sam.state_dict()["state"].values() for key in state)


def test_a_scheduler_reaches_the_base_without_a_warning() -> None:
    # Warnings are errors here.
    net = noisy_net()
    sam = SAM(SGD(net.parameters(), lr=1.0), 0.1, module=net)
    scheduler = LambdaLR(sam, lambda step: 0.5**step)
    rates = []
    for step in range(3):
        rates.append(sam.base.param_groups[0]["lr"])
        train(net, sam, 1, first=step)
        scheduler.step()
    assert rates == [1.0, 0.5, 0.25]


def test_the_norm_is_over_all_groups_together() -> None:
    # T12
    a, b = nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([4.0]))
    optimizer = Spy(SGD([{"params": [a]}, {"params": [b], "lr": 0.2}], lr=0.1), 1.0)
    optimizer.step(quadratic(torch.eye(2), [a, b], optimizer))
    torch.testing.assert_close(torch.cat(optimizer.eps), torch.tensor([0.6, 0.8]))


def test_the_norm_of_half_precision_does_not_overflow() -> None:
    # T11: 300 squared is beyond float16.
    assert global_norm([torch.full((4,), 300.0, dtype=torch.float16)]).item() == pytest.approx(600)


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf")])
def test_rho_must_be_a_number_from_zero(rho: float) -> None:
    with pytest.raises(ValueError, match=r"ascent\.rho must be a finite number from 0"):
        SAM(SGD([nn.Parameter(torch.ones(1))], lr=0.1), rho)
