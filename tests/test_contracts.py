"""Requirements for every file of a config group. A new YAML in the folder is tested without a new test."""

import copy
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import nn
from torch.optim import SGD, Optimizer

from samgap import cli, targets
from samgap.curvature.examples import Examples
from samgap.curvature.probes import Subject
from samgap.data.sets import Raw, Split
from samgap.losses import correct, cross_entropy
from samgap.models.count import count
from samgap.models.init import initialize
from samgap.models.mlp import MLP
from samgap.models.resnet18 import ResNet18
from samgap.optim.wrapper import Wrapper
from samgap.targets import locate
from tests.conftest import composed, config
from tests.pruning.nets import EXAMPLES, zero_initialized


def choices(group: str, *without: str) -> list[str]:
    return sorted(path.stem for path in (Path(cli.CONF) / group).glob("*.yaml") if path.stem not in ("base", *without))


def options(group: str, name: str) -> tuple[Any, dict[str, Any]]:
    """Return (code, arguments) of a choice."""
    values = config(f"{group}={name}")[group]
    return locate(values["code"]), targets.options(values)


@pytest.mark.parametrize("name", choices("data"))
def test_hydra_makes_the_data_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = composed(f"data={name}").data

    @functools.wraps(locate(chosen.code))  # a loader with the same keys that needs no files
    def load(folder: Path, **own: Any) -> Raw:
        split = Split(torch.zeros(2, chosen.channels, 8, 8), torch.tensor([0, chosen.classes - 1]))
        return Raw(split, split, max_pixel=255)

    monkeypatch.setattr(chosen.code, load)
    data = instantiate(chosen)("nowhere")
    assert (data.shape, data.classes, len(data.train)) == ((chosen.channels, *[chosen.size] * 2), chosen.classes, 2)


@pytest.mark.parametrize("name", choices("data"))
def test_data_sets_have_the_same_keys(name: str) -> None:
    # Other keys of a data set are arguments of its loader.
    assert config(f"data={name}")["data"].keys() >= config("data=digits")["data"].keys()
    data = config(f"data={name}")["data"]
    assert len(data["mean"]) == len(data["std"]) == data["channels"]
    # These are off by default, so that a study sets them explicitly.
    assert (data["train_size"], data["holdout"], data["label_noise"], data["seed"]) == (None, 0, 0, 0)


@pytest.mark.parametrize("name", choices("model"))
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_models_grow_with_width_and_give_logits(name: str, shape: tuple[int, int, int]) -> None:
    target, _ = options("model", name)
    step = locate(f"{target.__module__}.WIDTH_STEP")
    with torch.device("meta"):
        totals = [count(target(shape, 10, width=k * step)).total for k in (3, 10, 11, 40)]
    assert totals == sorted(set(totals))
    net = target(shape, 7, width=10 * step)
    assert net(torch.randn(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", choices("model"))
def test_two_models_of_one_seed_are_equal(name: str) -> None:
    chosen = composed(f"model={name}", "model.width=2").model
    nets = []
    for _ in range(2):
        torch.manual_seed(5)
        nets.append(instantiate(chosen)((1, 8, 8), 10))
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


def pruner(name: str) -> tuple[Any, dict[str, Any]]:
    """Return a pruner and its settings without the sparsity."""
    target, arguments = options("pruner", name)
    for key in ("sparsity", "live_params", "refuse_empty", "seed"):
        assert key in arguments
        del arguments[key]
    return target, arguments


@pytest.mark.parametrize("name", choices("pruner"))
@pytest.mark.parametrize("model", ["mlp", "resnet18"])
def test_pruners_meet_the_count_nest_and_leave_the_net_alone(name: str, model: str) -> None:
    target, arguments = pruner(name)
    torch.manual_seed(0)
    net = MLP((1, 8, 8), 10, 0.3) if model == "mlp" else ResNet18((1, 8, 8), 10, 2)
    initialize(net, "lecun_normal")
    before, kernels = copy.deepcopy(net.state_dict()), count(net).prunable
    masks = {s: target(net, EXAMPLES, sparsity=s, seed=1, **arguments) for s in (0, 0.5, 0.9)}
    names = [key for key, weight in net.named_parameters() if weight.ndim >= 2]
    for sparsity, found in masks.items():
        assert list(found) == names
        # T22, T33: the count is exact, and sparsity 0 keeps every weight.
        assert sum(int(m.sum()) for m in found.values()) == round((1 - sparsity) * kernels)
        again = target(net, EXAMPLES, sparsity=sparsity, seed=1, **arguments)
        assert all(torch.equal(found[key], again[key]) for key in found)
    if "iterations" not in arguments:  # with several rounds, scores depend on the sparsity
        assert all((masks[0.9][key] <= masks[0.5][key]).all() for key in masks[0.5])
    # T37: weights are unchanged by scoring, and running statistics have their initial values.
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net.training
    assert all(weight.grad is None for weight in net.parameters())


@pytest.mark.parametrize("name", choices("pruner"))
def test_pruners_meet_the_count_among_ties(name: str) -> None:
    net = MLP((1, 8, 8), 10, 0.3)
    for weight in (w for w in net.parameters() if w.ndim == 2):
        nn.init.zeros_(weight[:, ::2])  # these have the lowest score by any pruner, and are equal
    found = instantiate(composed(f"pruner={name}", "pruner.sparsity=0.37").pruner)(net, EXAMPLES)
    assert sum(int(m.sum()) for m in found.values()) == round(0.63 * count(net).prunable)


@pytest.mark.parametrize("name", choices("pruner"))
def test_pruners_see_through_a_scale_that_starts_at_zero(name: str) -> None:
    # Kernels before the scale have no gradient yet, so a mask by gradients would depend on their position.
    target, arguments = pruner(name)
    hidden, at_one = (target(zero_initialized(scale), EXAMPLES, sparsity=0.5, seed=1, **arguments) for scale in (0, 1))
    assert all(torch.equal(hidden[key], at_one[key]) for key in at_one)
    assert all(0.2 < layer.float().mean() < 0.8 for key, layer in hidden.items() if "conv" in key)


def quadratic(weight: nn.Parameter, optimizer: Optimizer, calls: list[torch.Tensor]) -> Any:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        calls.append(weight.detach().clone())
        loss = (torch.arange(1, 6) * weight.square()).sum() / 2
        loss.backward()
        return loss

    return closure


def ascent(name: str, base: Optimizer, weight: nn.Parameter, **changed: float) -> Optimizer:
    target, arguments = options("ascent", name)
    assert arguments.pop("m") is None
    module = nn.Module()
    module.weight = weight
    return target(base, module=module, **(arguments | changed))


@pytest.mark.parametrize("name", choices("ascent", "none"))
@pytest.mark.parametrize("start", [torch.ones(5), torch.zeros(5)], ids=["slope", "minimum"])
def test_ascents_return_to_the_weights_before_the_descent(name: str, start: torch.Tensor) -> None:
    chosen, module = composed(f"ascent={name}"), nn.Module()
    module.weight = weight = nn.Parameter(start.clone())
    base = instantiate(chosen.optimizer, lr=0.0)(module.parameters())
    optimizer = instantiate(chosen.ascent, rho=0.1)(base, module)
    calls: list[torch.Tensor] = []
    loss = optimizer.step(quadratic(weight, optimizer, calls))
    assert torch.equal(weight, start)
    assert loss.item() == pytest.approx(float((torch.arange(1, 6) * start.square()).sum() / 2))
    assert len(calls) == 2
    assert torch.equal(calls[0], start)
    # The ascent raises the loss, unless the gradient is 0.
    assert torch.equal(calls[1], start) == (not start.any())
    assert torch.isfinite(calls[1]).all()


@pytest.mark.parametrize("name", choices("ascent", "none"))
def test_ascents_of_radius_zero_are_the_base(name: str) -> None:
    results = []
    for wrap in (False, True):
        weight = nn.Parameter(torch.ones(5))
        optimizer = base = SGD([weight], lr=0.03, momentum=0.9, weight_decay=0.01)
        if wrap:
            # GSAM with alpha = 0, since its additional term rounds even at rho = 0.
            optimizer = ascent(name, base, weight, rho=0, **({"alpha": 0} if name == "gsam" else {}))
        for _ in range(20):
            optimizer.step(quadratic(weight, optimizer, []))
        results.append(weight.detach().clone())
    assert torch.equal(*results)


def test_no_ascent_is_the_plain_gradient() -> None:
    net = nn.Linear(2, 2)
    for chosen in (composed("ascent=none").ascent, composed("ascent.rho=0").ascent):
        assert type(instantiate(chosen)(SGD(net.parameters()), net)) is Wrapper


@pytest.mark.parametrize("name", choices("loss"))
def test_losses_are_means_over_the_batch_and_small_when_right(name: str) -> None:
    target = instantiate(composed(f"loss={name}").loss)
    labels = torch.tensor([0, 1, 2, 1])
    right = (
        30.0 * nn.functional.one_hot(labels, 3) if name == "cross_entropy" else nn.functional.one_hot(labels, 3).float()
    )
    assert target(right.float(), labels).item() == pytest.approx(0, abs=1e-6)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert target(logits, labels) > 0.1
    doubled = target(torch.cat([logits, logits]), torch.cat([labels, labels]))
    assert doubled.item() == pytest.approx(target(logits, labels).item())


def test_the_squared_loss_by_hand() -> None:
    target, _ = options("loss", "squared")
    # (0.5 - 1)^2 + 1^2 and 0^2 + (1 - 1)^2, mean 0.625.
    assert target(torch.tensor([[0.5, 1.0], [0.0, 1.0]]), torch.tensor([0, 1])).item() == pytest.approx(0.625)


def test_the_mean_squared_loss_is_torch_s() -> None:
    target, _ = options("loss", "mean_squared")
    draw = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(5, 3, generator=draw), torch.randn(5, 3, generator=draw)
    labels = torch.tensor([0, 1, 2, 1, 0])
    assert target(logits, targets).item() == pytest.approx(nn.functional.mse_loss(logits, targets).item())
    one_hot = nn.functional.one_hot(labels, 3).float()
    assert target(logits, labels).item() == pytest.approx(nn.functional.mse_loss(logits, one_hot).item())


def test_the_squared_loss_of_targets_by_hand() -> None:
    target, _ = options("loss", "squared")
    outputs, targets = torch.tensor([[0.5, 1.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    # 0.5^2 and 2^2 + 1^2, mean 2.625.
    assert target(outputs, targets).item() == pytest.approx(2.625)
    assert correct(outputs, targets).item() == 0
    assert correct(outputs, torch.tensor([1, 0])).item() == 1


@pytest.mark.parametrize("name", choices("probe"))
def test_probes_find_plain_values_and_leave_the_net_as_it_was(name: str) -> None:
    chosen = composed(f"probe={name}").probe[name]
    assert chosen.name == name
    net = ResNet18((1, 8, 8), 10, 1)
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    images, labels = EXAMPLES.normalize(EXAMPLES.images[:12]), EXAMPLES.labels[:12]
    # Small settings, since this tests only that the net is unchanged.
    small = {key: value for key, value in (("points", 3), ("examples", 3), ("orders", [2])) if key in chosen}
    subject, measure = Subject(net, cross_entropy, Examples(images, labels), {}), instantiate(chosen, **small)
    found = measure(subject)
    json.dumps(found, allow_nan=False)
    assert found == measure(subject)
    # T43: mode, gradients, statistics and random state.
    assert net.training
    assert all(weight.grad is None and weight.requires_grad for weight in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("name", choices("schedule"))
def test_schedules_stay_between_zero_and_the_base_rate(name: str) -> None:
    factor = instantiate(composed(f"schedule={name}").schedule)
    factors = [factor(step, 100) for step in range(101)]
    assert factors[0] == 1
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors == sorted(factors, reverse=True)


@pytest.mark.parametrize("name", choices("trainer"))
def test_trainers_have_the_same_keys(name: str) -> None:
    assert config(f"trainer={name}")["trainer"].keys() == config("trainer=cpu")["trainer"].keys()
