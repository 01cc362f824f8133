"""The step on random nets by Hypothesis, with groups, frozen parameters, and parameters without gradient."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD

from samgap.optim.asam import ASAM
from samgap.optim.gsam import GSAM
from samgap.optim.sam import SAM, global_norm
from samgap.optim.sam_unnormalized import SAMUnnormalized

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
PARAMETERS = st.lists(st.tuples(SHAPES, st.sampled_from(["used", "frozen", "unused"])), min_size=1, max_size=6)
VARIANTS = st.sampled_from([SAM, SAMUnnormalized, ASAM, GSAM])


class Bag(nn.Module):
    """Parameters of the given shapes, some frozen, some never used; the loss is a sum of their fourth powers."""

    def __init__(self, kinds: list[tuple[tuple[int, ...], str]], seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.kinds = [kind for _, kind in kinds]
        for number, (shape, kind) in enumerate(kinds):
            weight = torch.randn(shape, generator=generator, dtype=torch.float64)
            self.register_parameter(f"weight_{number}", nn.Parameter(weight, requires_grad=kind != "frozen"))

    def forward(self) -> Tensor:
        used = [w for w, kind in zip(self.parameters(), self.kinds, strict=True) if kind != "unused"]
        return sum((w.pow(4).sum() for w in used), torch.zeros((), dtype=torch.float64, requires_grad=True))


@settings(deadline=None, max_examples=150)
@given(
    kinds=PARAMETERS, cut=st.integers(0, 6), seed=st.integers(0, 10), variant=VARIANTS, rho=st.sampled_from([0.01, 2.0])
)
def test_one_step(kinds: Any, cut: int, seed: int, variant: type[SAM], rho: float) -> None:
    net = Bag(kinds, seed)
    weights = list(net.parameters())
    groups = [{"params": part} for part in (weights[:cut], weights[cut:])]
    optimizer = variant(SGD(groups, lr=0.0, weight_decay=0.1), rho, net)
    before = [w.detach().clone() for w in weights]
    passes: list[list[Tensor]] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        passes.append([w.detach().clone() for w in weights])
        loss = net()
        loss.backward()
        return loss

    optimizer.measuring = True
    optimizer.step(closure)
    assert all(torch.equal(w, old) for w, old in zip(weights, before, strict=True))
    if len(passes) == 1:
        assert "used" not in net.kinds
        return
    eps = [b - a for a, b in zip(*passes, strict=True)]
    for move, kind in zip(eps, net.kinds, strict=True):
        assert kind == "used" or not move.any()
    gradients = [4 * w.pow(3) for w, kind in zip(before, net.kinds, strict=True) if kind == "used"]
    slope = global_norm(gradients)
    if slope > 0:
        length = {SAM: rho, GSAM: rho, SAMUnnormalized: rho * slope.item()}.get(variant)
        assert length is None or global_norm(eps).item() == pytest.approx(length, rel=1e-9)
        assert optimizer.measured is not None
        assert optimizer.measured.radius.item() == pytest.approx(rho, rel=1e-7)
    else:
        assert not any(move.any() for move in eps)
