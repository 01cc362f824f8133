import math
from fractions import Fraction

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from samgap.optim.schedule import constant, cosine, step
from samgap.training.build import Schedule


def test_constant() -> None:
    assert [constant(t, 10) for t in (0, 5, 9)] == [1.0] * 3


def test_step_decays_at_half_and_three_quarters() -> None:
    # 200 epochs of 391 steps: the official boundaries for CIFAR-10 are 39,100 and 58,650.
    steps = 78_200
    assert step(39_099, steps) == 1
    assert step(39_100, steps) == pytest.approx(0.1)
    assert step(58_649, steps) == pytest.approx(0.1)
    assert step(58_650, steps) == pytest.approx(0.01)


def test_step_takes_the_official_milestones() -> None:
    # 100 epochs of 469 steps: 11,725, 23,450, 35,175 in the official MNIST config.
    factors = [step(t, 46_900, milestones=(0.25, 0.5, 0.75)) for t in (11_724, 11_725, 23_450, 35_175)]
    assert factors == pytest.approx([1, 0.1, 0.01, 0.001])


def test_a_milestone_is_a_whole_step_in_spite_of_rounding() -> None:
    for percent in range(1, 100):
        for steps in (50, 100, 46_900):
            falls = math.ceil(Fraction(percent, 100) * steps)
            assert [step(t, steps, (percent / 100,)) for t in (falls - 1, falls)] == [1, 0.1], (percent, steps)


def test_cosine_warms_up_and_ends_at_zero() -> None:
    assert cosine(0, 100, warmup_steps=10) == 0
    assert cosine(5, 100, warmup_steps=10) == pytest.approx(0.5)
    assert cosine(10, 100, warmup_steps=10) == pytest.approx(1)
    assert cosine(55, 100, warmup_steps=10) == pytest.approx(0.5)
    assert cosine(100, 100, warmup_steps=10) == pytest.approx(0)
    assert cosine(25, 100) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_the_scheduler_is_torchs_without_its_checks() -> None:
    rates, states = [], []
    for kind in (LambdaLR, Schedule):
        groups = [{"params": [torch.zeros(1)], "lr": lr} for lr in (0.1, 0.03)]
        optimizer = SGD(groups)
        for half in range(2):  # the second continues from the state of the first
            scheduler = kind(optimizer, lambda t: cosine(t, 10, warmup_steps=3))
            if half:
                scheduler.load_state_dict(states[-1])
            for _ in range(4):
                optimizer.step()
                scheduler.step()
                rates.append([*scheduler.get_last_lr(), *(group["lr"] for group in optimizer.param_groups)])
            states.append(scheduler.state_dict())
    assert rates[:8] == rates[8:]
    for theirs, ours in zip(states[:2], states[2:], strict=True):
        assert {**theirs, "_get_lr_called_within_step": None} == {**ours, "_get_lr_called_within_step": None}
    assert len({rate[0] for rate in rates}) == 8
