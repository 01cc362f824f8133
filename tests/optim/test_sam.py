"""SAM satisfies closed forms, limits and invariants. T1 to T50 are traps of docs/traps.md that a test guards."""

import copy
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from samgap.optim import sam as sam_module
from samgap.optim.asam import ASAM
from samgap.optim.gsam import GSAM
from samgap.optim.sam import SAM, STEPS, global_norm
from samgap.optim.sam_unnormalized import SAMUnnormalized
from samgap.optim.wrapper import Wrapper
from tests.processes import LIMIT

VARIANTS: list[type[SAM]] = [SAM, SAMUnnormalized, ASAM, GSAM]


class Weights(nn.Module):
    """Named parameters, which ASAM needs; those named bias_... are not scaled."""

    def __init__(self, weights: list[nn.Parameter], kind: str = "weight") -> None:
        super().__init__()
        for number, weight in enumerate(weights):
            self.register_parameter(f"{kind}_{number}", weight)


def quadratic(matrix: Tensor, weights: list[Tensor], optimizer: Optimizer) -> Callable[[], Tensor]:
    """Return a closure of L(w) = w' A w / 2, where w is the concatenation of `weights`."""

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


RHO, ETA, ALPHA = 0.1, 0.05, 0.3


def closed_form(variant: type[SAM], matrix: Tensor, w: Tensor) -> Tensor:
    """Return the gradient of the base's step for L(w) = w' A w / 2, by the papers' formulas."""
    g = matrix @ w
    t = torch.cat([w[:2].abs() + ETA, torch.ones(3, dtype=w.dtype)])
    eps = {
        SAM: RHO * g / g.norm(),
        SAMUnnormalized: RHO * g,
        ASAM: RHO * t**2 * g / (t * g).norm(),
        GSAM: RHO * g / g.norm(),
    }[variant]
    p = matrix @ (w + eps)
    unit = p / p.norm()
    return p - ALPHA * (g - (g @ unit) * unit) if variant is GSAM else p


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("interval", [None, 3])
def test_a_quadratic_follows_the_closed_form(variant: type[SAM], interval: int | None) -> None:
    # v = mu v + (gradient of the variant) + lambda w, w = w - lr v; plain gradients in steps without ascent
    matrix, weights = problem()
    module = nn.Module()
    module.weight, module.bias = weights
    lr, mu, decay = 0.03, 0.9, 0.01
    own: dict[str, Any] = {ASAM: {"eta": ETA}, GSAM: {"alpha": ALPHA}}.get(variant, {})
    base = SGD(weights, lr=lr, momentum=mu, weight_decay=decay)
    optimizer = variant(base, RHO, module, interval=interval, **own)
    w, v = torch.cat([p.detach().clone() for p in weights]), torch.zeros(5, dtype=torch.float64)
    for step in range(25):
        loss = optimizer.step(quadratic(matrix, weights, optimizer))
        assert loss.item() == pytest.approx((0.5 * w @ matrix @ w).item(), rel=1e-12)
        plain = interval is not None and step % interval
        v = mu * v + (matrix @ w if plain else closed_form(variant, matrix, w)) + decay * w
        w = w - lr * v
        torch.testing.assert_close(torch.cat([p.detach() for p in weights]), w, rtol=1e-11, atol=1e-13)
    assert optimizer.ascents == (25 if interval is None else 9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_measured_is_what_happened(variant: type[SAM]) -> None:
    matrix, weights = problem()
    module = nn.Module()
    module.weight, module.bias = weights
    optimizer = variant(SGD(weights, lr=0.0), RHO, module)
    w = torch.cat([p.detach() for p in weights])
    optimizer.step(quadratic(matrix, weights, optimizer))
    assert optimizer.measured is None
    optimizer.measuring = True
    optimizer.step(quadratic(matrix, weights, optimizer))
    measured = optimizer.measured
    assert measured is not None
    assert not optimizer.measuring
    g = matrix @ w
    eps = optimizer.ascent(weights, list(g.split([2, 3])))
    moved = w + torch.cat(eps)
    assert measured.radius.item() == pytest.approx(RHO, rel=1e-9)
    assert measured.grad_norm.item() == pytest.approx(g.norm().item())
    assert measured.eps_norm.item() == pytest.approx(torch.cat(eps).norm().item())
    assert measured.loss_rise.item() == pytest.approx((moved @ matrix @ moved - w @ matrix @ w).item() / 2)
    assert measured.cosine.item() == pytest.approx(torch.cosine_similarity(g, matrix @ moved, dim=0).item())


def test_gsam_closes_the_gap_and_leaves_the_perturbed_loss_alone() -> None:
    # Zhuang et al. 2022, section 4.2: the additional term is orthogonal to the gradient at w + eps, and opposite to g.
    matrix, weights = problem()
    optimizer = GSAM(SGD(weights, lr=0.0), 1.0, alpha=0.5)
    optimizer.step(quadratic(matrix, weights, optimizer))
    w = torch.cat([p.detach() for p in weights])
    g = matrix @ w
    p = matrix @ (w + g / g.norm())
    extra = torch.cat([x.grad for x in weights if x.grad is not None]) - p
    assert abs(float(extra @ p)) < 1e-10 * float(extra.norm() * p.norm())
    assert float(extra @ g) < 0


def test_gsam_without_alpha_is_sam_bit_for_bit() -> None:
    nets = []
    for variant, own in ((SAM, {}), (GSAM, {"alpha": 0.0})):
        net = noisy_net()
        torch.manual_seed(1)
        train(net, variant(SGD(net.parameters(), lr=0.1, momentum=0.9), 0.3, net, **own), 20)
        nets.append(net.state_dict())
    assert equal_states(*nets)


def test_asam_is_sam_where_nothing_is_a_weight() -> None:
    results = []
    for variant in (SAM, ASAM):
        matrix, weights = problem()
        optimizer = variant(SGD(weights, lr=0.1), 0.3, Weights(weights, kind="bias"))
        optimizer.step(quadratic(matrix, weights, optimizer))
        results.append(torch.cat([w.detach() for w in weights]))
    assert torch.equal(*results)


def test_asam_does_not_see_a_layer_s_scale() -> None:
    # Kwon et al. 2021, definition 1: (2 w1, w2 / 2) is the same function, and with eta = 0 the ascent is equivalent.
    moved = []
    for factor in (1.0, 2.0):
        a, b = (nn.Parameter(torch.tensor([x], dtype=torch.float64)) for x in (1.5 * factor, -0.7 / factor))
        optimizer = ASAM(SGD([a, b], lr=0.0), 0.2, Weights([a, b]), eta=0.0)
        products = []

        def closure() -> Tensor:
            optimizer.zero_grad()  # noqa: B023
            product = a * b  # noqa: B023
            products.append(product.item())  # noqa: B023
            loss = (product - 1).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        moved.append(products)
    assert moved[0] == pytest.approx(moved[1], rel=1e-12)


def test_asam_refuses_a_parameter_that_its_module_lacks() -> None:
    matrix, weights = problem()
    optimizer = ASAM(SGD(weights, lr=0.1), 0.1, Weights(weights[:1]))
    with pytest.raises(ValueError, match="needs the module of all parameters"):
        optimizer.step(quadratic(matrix, weights, optimizer))


def test_asam_needs_names() -> None:
    with pytest.raises(ValueError, match="ASAM needs the module"):
        ASAM(SGD([nn.Parameter(torch.ones(1))], lr=0.1), 0.1)


@pytest.mark.parametrize(
    ("variant", "own", "message"),
    [
        (ASAM, {"eta": -1.0}, r"ascent\.eta must be a number from 0, got -1\.0"),
        (GSAM, {"alpha": float("nan")}, r"ascent\.alpha must be a number from 0, got nan"),
        (SAM, {"interval": 0}, r"ascent\.interval must be a whole number from 1, or null, got 0"),
        (SAM, {"interval": 2.0}, r"ascent\.interval must be a whole number from 1, or null, got 2\.0"),
    ],
)
def test_settings_of_the_variants_are_checked(variant: type[SAM], own: dict[str, Any], message: str) -> None:
    weights = [nn.Parameter(torch.ones(1))]
    with pytest.raises(ValueError, match=message):
        variant(SGD(weights, lr=0.1), 0.1, Weights(weights), **own)


def test_an_interval_of_one_is_sam_and_its_other_steps_are_the_base_s() -> None:
    nets = {}
    for name, wrap in {
        "sam": lambda base, net: SAM(base, 0.3, net),
        "every": lambda base, net: SAM(base, 0.3, net, interval=1),
        "never again": lambda base, net: SAM(base, 0.0, net, interval=1000),
        "base": lambda base, net: base,
    }.items():
        net = noisy_net()
        torch.manual_seed(1)
        train(net, wrap(SGD(net.parameters(), lr=0.1, momentum=0.9), net), 10)
        nets[name] = net.state_dict()
    assert equal_states(nets["sam"], nets["every"])
    assert equal_states(nets["base"], nets["never again"])
    assert not equal_states(nets["sam"], nets["base"])


def test_where_an_interval_stands_survives_a_checkpoint() -> None:
    matrix, weights = problem()
    optimizer = SAM(SGD(weights, lr=0.1), 0.1, interval=3)
    for _ in range(4):
        optimizer.step(quadratic(matrix, weights, optimizer))
    saved = copy.deepcopy(optimizer.state_dict())
    assert saved["param_groups"][0][STEPS] == 4
    again = SAM(SGD(weights, lr=0.1), 0.1, interval=3)
    again.load_state_dict(saved)
    active = []
    for _ in range(5):
        again.ascents = 0
        again.step(quadratic(matrix, weights, again))
        active.append(again.ascents)
    assert active == [0, 0, 1, 0, 0]  # steps 4 to 8


@pytest.mark.parametrize("variant", VARIANTS)
def test_groups_of_examples_each_have_an_ascent_of_their_own(variant: type[SAM]) -> None:
    # m-sharpness: the weighted sum of the gradients of single groups.
    generator = torch.Generator().manual_seed(4)
    x, y = torch.randn(10, 5, generator=generator).double(), torch.randn(10, generator=generator).double()
    weight = nn.Parameter(torch.randn(5, generator=generator).double())
    optimizer = variant(SGD([weight], lr=0.0), 0.3, Weights([weight]))

    def closure(part: slice) -> Callable[[], Tensor]:
        def run() -> Tensor:
            optimizer.zero_grad()
            loss = (x[part] @ weight - y[part]).square().mean()
            loss.backward()
            return loss

        return run

    alone, losses = [], []
    parts = [slice(0, 4), slice(4, 8), slice(8, 10)]
    for part in parts:
        losses.append(optimizer.step(closure(part)).item())
        alone.append(weight.grad.clone())
    loss = optimizer.step(groups=[(len(y[part]) / 10, closure(part)) for part in parts])
    torch.testing.assert_close(weight.grad, 0.4 * alone[0] + 0.4 * alone[1] + 0.2 * alone[2], rtol=1e-12, atol=0)
    assert loss.item() == pytest.approx(0.4 * losses[0] + 0.4 * losses[1] + 0.2 * losses[2])


def test_a_step_needs_a_closure() -> None:
    with pytest.raises(ValueError, match="needs a closure"):
        Wrapper(SGD([nn.Parameter(torch.ones(1))], lr=0.1)).step()


def test_the_plain_wrapper_is_the_base_bit_for_bit() -> None:
    nets = []
    for wrap in (lambda base: base, Wrapper):
        net = noisy_net()
        torch.manual_seed(1)
        train(net, wrap(Adam(net.parameters(), lr=0.01)), 20)
        nets.append(net.state_dict())
    assert equal_states(*nets)


def test_a_pre_hook_of_the_base_sees_the_final_gradient() -> None:
    # Clipping belongs here: before the ascent it would have no effect, and between the passes it would change it.
    matrix, weights = problem()
    base = SGD(weights, lr=0.1)
    optimizer = SAM(base, 1.0)
    seen = []
    base.register_step_pre_hook(lambda *_: seen.append(torch.cat([w.grad.clone() for w in weights])))
    w = torch.cat([p.detach().clone() for p in weights])
    optimizer.step(quadratic(matrix, weights, optimizer))
    g = matrix @ w
    torch.testing.assert_close(seen[0], matrix @ (w + g / g.norm()), rtol=1e-12, atol=0)
    assert len(seen) == 1


def noisy_net() -> nn.Module:
    """Return a net with batch norm and dropout, which a second pass could disturb."""
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
    # Batch norm is updated once (T4, T6), passes share a dropout mask (T7), and weights are restored exactly (T3).
    plain, wrapped = noisy_net(), noisy_net()
    base = make(plain.parameters())
    sam = variant(make(wrapped.parameters()), 0.0, wrapped)
    torch.manual_seed(1)
    train(plain, base, 20)
    torch.manual_seed(1)
    train(wrapped, sam, 20)
    assert equal_states(plain.state_dict(), wrapped.state_dict())


class Spy(SAM):
    """Records the ascent."""

    eps: list[Tensor]

    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        self.eps = super().ascent(weights, gradients)
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
    # T8: an epsilon in the denominator would shrink the ascent in nets that interpolate.
    weight = nn.Parameter(torch.tensor([1e-9, 0.0]))
    optimizer = Spy(SGD([weight], lr=0.0), 0.1)
    optimizer.step(quadratic(torch.eye(2), [weight], optimizer))
    assert torch.cat(optimizer.eps).norm().item() == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_zero_gradient_gives_no_ascent_and_no_nan(variant: type[SAM]) -> None:
    weights = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))]
    optimizer = variant(SGD(weights, lr=0.1), 0.1, Weights(weights))
    optimizer.step(quadratic(torch.eye(5), weights, optimizer))
    assert not any(w.any() for w in weights)


def test_weight_decay_stays_out_of_the_ascent() -> None:
    # T9: near interpolation, weight decay would dominate the direction.
    matrix, weights = problem()
    optimizer = Spy(SGD(weights, lr=0.1, weight_decay=100.0), 0.1)
    gradient = matrix @ torch.cat([w.detach() for w in weights])
    optimizer.step(quadratic(matrix, weights, optimizer))
    torch.testing.assert_close(torch.cat(optimizer.eps), 0.1 * gradient / gradient.norm())


def test_weights_come_back_bit_for_bit() -> None:
    # T3: with lr 0 there are only ascent and restoration, 200 times.
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
    # Autocast caches low-precision copies of weights until its block ends.
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
    # T4, T6: also the count of batches, which momentum 0 would increment.
    net = noisy_net()
    plain = copy.deepcopy(net)
    optimizer = SAM(SGD(net.parameters(), lr=0.1), 5.0, module=net)
    optimizer.step(batch_closure(net, optimizer, 0))
    generator = torch.Generator().manual_seed(0)
    plain(torch.randn(12, 6, generator=generator))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(net[1], name), getattr(plain[1], name))


@pytest.mark.parametrize("mode", [True, False])
def test_instance_norm_is_updated_once_and_both_passes_compute_the_same_function(mode: bool) -> None:
    torch.manual_seed(0)
    norm = nn.InstanceNorm1d(3, affine=True, track_running_stats=True, momentum=0.3)
    net, images = nn.Sequential(nn.Conv1d(2, 3, 3), norm, nn.Flatten(), nn.Linear(18, 1)), torch.randn(4, 2, 8)
    net.train(mode)
    plain, outputs = copy.deepcopy(net), []
    optimizer = SAM(SGD(net.parameters(), lr=0.1), 0.0, module=net)

    def closure() -> Tensor:
        optimizer.zero_grad()
        outputs.append(net(images))
        outputs[-1].square().sum().backward()
        return outputs[-1].detach().square().sum()

    optimizer.step(closure)
    assert torch.equal(*outputs)
    plain(images)
    for name in ("running_mean", "running_var", "momentum", "track_running_stats"):
        assert torch.equal(*(torch.as_tensor(getattr(each[1], name)) for each in (net, plain)))


def test_layers_that_are_replaced_or_stop_tracking_later_stay_so() -> None:
    net = noisy_net()
    optimizer = SAM(SGD(net.parameters(), lr=0.1), 0.1, module=net)
    net[1] = nn.Sequential(net[1], nn.BatchNorm1d(net[1].num_features, affine=False))
    net[1][0].track_running_stats = False
    optimizer.step(batch_closure(net, optimizer, 0))
    assert not net[1][0].track_running_stats
    assert int(net[1][1].num_batches_tracked) == 1


def test_complex_weights_have_an_ascent_of_length_rho() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    matrix = torch.randn(10, 10, generator=generator, dtype=torch.float64)
    ends = []
    for is_complex in (True, False):  # L depends on real and imaginary parts, as on 10 real weights
        weight = nn.Parameter(torch.view_as_complex(pairs.clone()) if is_complex else pairs.clone())
        optimizer = Spy(SGD([weight], lr=0.1), 0.1)

        def real(w: Tensor) -> Tensor:
            return torch.view_as_real(w) if w.is_complex() else w

        def closure(weight: nn.Parameter = weight, optimizer: Spy = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = (matrix @ real(weight).flatten()).pow(4).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        ends += [real(optimizer.eps[0]), real(weight.detach())]
    assert float(ends[0].norm()) == pytest.approx(0.1)
    torch.testing.assert_close(ends[:2], ends[2:])


@pytest.mark.parametrize("draw", [random.random, np.random.rand])
def test_both_passes_draw_the_same_numbers_from_python_and_numpy(draw: Callable[[], float]) -> None:
    weight, drawn = nn.Parameter(torch.ones(3)), []
    optimizer = SAM(SGD([weight], lr=0.1), 0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        drawn.append(draw())
        loss = drawn[-1] * weight.sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    optimizer.step(closure)
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3]


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
    # T4, T5: a parameter with a gradient only in the first pass, and one that never has a gradient.
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
    base.load_state_dict(copy.deepcopy(base.state_dict()))  # replaces both objects
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
    # T11: 300 squared overflows float16.
    assert global_norm([torch.full((4,), 300.0, dtype=torch.float16)]).item() == pytest.approx(600)


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf")])
def test_rho_must_be_a_number_from_zero(rho: float) -> None:
    with pytest.raises(ValueError, match=r"ascent\.rho must be a finite number from 0"):
        SAM(SGD([nn.Parameter(torch.ones(1))], lr=0.1), rho)


def test_the_folder_can_be_lifted_out(tmp_path: Path) -> None:
    shutil.copytree(Path(sam_module.__file__).parent, tmp_path / "optim")
    code = "import optim.sam, optim.asam, optim.gsam, optim.sam_unnormalized, sys; print('samgap' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=True
    )
    assert done.stdout.strip() == "False"
