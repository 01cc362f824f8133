"""Scores of each pruner equal formulas that are computed in another way, in float64."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call, grad
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from samgap.errors import SettingError
from samgap.models.init import initialize
from samgap.models.mlp import MLP
from samgap.models.resnet18 import ResNet18
from samgap.models.resnet50 import ResNet50
from samgap.pruning import grasp, magnitude, mask, random, random_erk, snip, synflow
from samgap.pruning.examples import Examples
from tests.pruning.nets import EXAMPLES, ReZero, examples, residual

ONE = {"batches": 1, "batch_size": 96, "mode": "train"}


def mlp(width: float = 0.1) -> MLP:
    torch.manual_seed(3)
    net = MLP((1, 8, 8), 10, width)
    initialize(net, "lecun_normal")
    return net.double()


def double(source: Examples) -> Examples:
    return Examples(source.images.double(), source.labels, source.normalize, source.loss)


def resnet() -> ResNet18:
    torch.manual_seed(3)
    net = ResNet18((1, 8, 8), 10, 4)
    initialize(net, "lecun_normal")
    return net


def kernels(net: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in net.named_parameters() if weight.ndim >= 2}


def loss_of(net: nn.Module, source: Examples, temperature: float = 1) -> object:
    def loss(weights: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(functional_call(net, weights, (source.images,)) / temperature, source.labels)

    return loss


def same(found: mask.Masks, scores: dict[str, Tensor], live: int) -> None:
    """Assert that `found` keeps the `live` largest of `scores`, which are clearly separated from the others."""
    everything = torch.cat([layer.flatten() for layer in scores.values()]).sort(descending=True).values
    assert everything[live - 1] > everything[live] * (1 + 1e-9)
    for name, layer in scores.items():
        assert torch.equal(found[name], layer >= everything[live - 1])


def test_snip_is_the_slope_of_the_loss_in_a_gate_on_each_weight() -> None:
    # Lee et al. 2019, equation 3: L(c * w), differentiated in c at 1.
    net, source = mlp(), double(EXAMPLES)
    weights = kernels(net)

    def gated(gates: dict[str, Tensor]) -> Tensor:
        return loss_of(net, source)({name: gates[name] * weight for name, weight in weights.items()})  # type: ignore[operator]

    slopes = grad(gated)({name: torch.ones_like(weight) for name, weight in weights.items()})
    live = mask.live_kernels(sum(weight.numel() for weight in weights.values()), 0.8)
    found = snip.prune(net, source, sparsity=0.8, seed=0, **ONE)
    same(found, {name: slope.abs() for name, slope in slopes.items()}, live)


def test_snip_s_batches_add_up_to_one_of_their_size() -> None:
    net, source = mlp(), double(EXAMPLES)
    several = snip.prune(net, source, sparsity=0.8, seed=0, batches=4, batch_size=24, mode="train")
    one = snip.prune(net, source, sparsity=0.8, seed=0, **ONE)
    assert all(torch.equal(several[name], one[name]) for name in one)


def test_snip_sees_other_images_with_another_seed_and_another_mode_of_batch_norm() -> None:
    # T32: the two modes of batch norm give different masks.
    settings = {"sparsity": 0.9, "batches": 1, "batch_size": 32}
    first, other = (snip.prune(resnet(), EXAMPLES, seed=seed, mode="train", **settings) for seed in (0, 1))
    assert any(not torch.equal(first[name], other[name]) for name in first)
    fixed = snip.prune(resnet(), EXAMPLES, seed=0, mode="eval", **settings)
    assert any(not torch.equal(first[name], fixed[name]) for name in first)


def test_snip_meets_its_sparsity_among_dead_pixels() -> None:
    # T22: a quarter of the scores are 0, and a smaller sparsity is met exactly.
    source = examples()
    source.images[:, :, :2] = 0
    net = mlp().float()
    found = snip.prune(net, source, sparsity=0.1, seed=0, **ONE)
    total = sum(layer.numel() for layer in found.values())
    assert total - round(0.9 * total) < 16 * 30  # fewer than the weights of constant pixels, which all have the score 0
    assert sum(int(layer.sum()) for layer in found.values()) == round(0.9 * total)


def test_kernels_of_a_resnet50_are_scored_though_its_blocks_start_as_identities() -> None:
    torch.manual_seed(0)
    net = ResNet50((1, 28, 28), 10, 2)
    found = snip.prune(net, examples(size=28), sparsity=0.5, seed=0, **ONE)
    assert sum(bool(layer.all()) for layer in found.values()) < 20
    assert all(layer.any() for layer in found.values())


GRADIENTS = {"batches": 1, "batch_size": 32, "mode": "train"}
SCORED = pytest.mark.parametrize(
    ("pruner", "settings"),
    [(snip, GRADIENTS), (grasp, GRADIENTS | {"temperature": 200}), (synflow, {"iterations": 3})],
)


@SCORED
def test_a_pruner_that_cannot_see_whole_layers_refuses_to_choose_among_them(pruner: Any, settings: Any) -> None:
    # A factor of 0 that is not the scale of a layer: at sparsity 1/2, position would decide which blocks are kept.
    hidden, seen = (residual(*(ReZero(4, factor) for _ in range(3))) for factor in (0.0, 0.1))
    message = r"All 432 weights of 1\.block\.weight, 2\.block\.weight, 3\.block\.weight have the same score \(-?0\)"
    with pytest.raises(SettingError, match=message):
        pruner.prune(hidden, EXAMPLES, sparsity=0.5, seed=0, **settings)
    pruner.prune(seen, EXAMPLES, sparsity=0.5, seed=0, **settings)
    random.prune(hidden, EXAMPLES, sparsity=0.5, seed=0)


class Attention(nn.Module):
    """Attention over the rows of an image, with dropout, a layer that is not used, and a mask as buffer."""

    def __init__(self, unused: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rows = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
        self.head = nn.Linear(8, 10)
        self.register_buffer("hidden", torch.zeros(8, 8, dtype=torch.bool))
        if unused:
            self.unused = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.rows(images.flatten(1, 2), src_mask=self.hidden).mean(dim=1))
        return logits


@SCORED
def test_nets_with_attention_dropout_and_frozen_layers_are_scored(pruner: Any, settings: Any) -> None:
    net = Attention()
    first = pruner.prune(net, EXAMPLES, sparsity=0.5, seed=0, **settings)
    net.rows.requires_grad_(False)
    again = pruner.prune(net, EXAMPLES, sparsity=0.5, seed=0, **settings)
    assert all(torch.equal(first[name], again[name]) for name in first)
    mask.apply(net, again)
    assert not net.rows.linear1.weight.requires_grad
    assert torch.equal(net.rows.linear1.weight != 0, again["rows.linear1.weight"])


@SCORED
def test_kernels_that_cannot_be_scored_or_masked_are_refused(pruner: Any, settings: Any) -> None:
    with pytest.raises(SettingError, match=r"does not depend on unused\.weight, so it has no score"):
        pruner.prune(Attention(unused=True), EXAMPLES, sparsity=0.5, seed=0, **settings)
    net = nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(64, 10)))
    with pytest.raises(SettingError, match=r"a kernel from 1\.parametrizations\.weight\.original0, so no mask"):
        pruner.prune(net, EXAMPLES, sparsity=0.5, seed=0, **settings)


def test_synflow_revives_no_weight_where_scores_are_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.LayerNorm(20), nn.ReLU(), nn.Linear(20, 100))
    lowest, rounds, largest = [], [], mask.largest

    def spy(scores: dict[str, Tensor], live: int) -> mask.Masks:
        lowest.append(min(float(layer.min()) for layer in scores.values()))
        rounds.append(largest(scores, live))
        return rounds[-1]

    monkeypatch.setattr(mask, "largest", spy)
    synflow.prune(net, EXAMPLES, sparsity=0.7, seed=0, iterations=20)
    assert lowest[0] < -1
    for before, after in pairwise(rounds):
        assert all((before[name] | ~after[name]).all() for name in after)


@pytest.mark.parametrize("batches", [1, 3])
def test_grasp_is_the_weight_times_hessian_times_gradient(batches: int) -> None:
    # Wang et al. 2020, equation 8, with the explicit Hessian.
    net, source = mlp(0.02), double(EXAMPLES)
    weights = kernels(net)
    loss = loss_of(net, source, temperature=5)
    sizes = [weight.numel() for weight in weights.values()]

    def of_vector(vector: Tensor) -> Tensor:
        parts = zip(weights.items(), vector.split(sizes), strict=True)
        return loss({name: part.view_as(weight) for (name, weight), part in parts})  # type: ignore[operator]

    vector = torch.cat([weight.flatten() for weight in weights.values()])
    gradient, matrix = grad(of_vector)(vector), hessian(of_vector, vector)
    parts = zip(weights.items(), (vector * (matrix @ gradient)).split(sizes), strict=True)
    scores = {name: part.view_as(weight) for (name, weight), part in parts}
    live = mask.live_kernels(sum(sizes), 0.7)
    settings = {"batches": batches, "batch_size": 96 // batches, "mode": "train", "temperature": 5}
    same(grasp.prune(net, source, sparsity=0.7, seed=0, **settings), scores, live)  # type: ignore[arg-type]


def test_synflow_in_one_round_by_hand() -> None:
    # A linear net: R = 1' |W2| |W1| 1, so the score of W1[i, j] is |W1[i, j]| times the sum of column i of |W2|.
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 7, bias=False), nn.Linear(7, 5, bias=False)).double()
    first, second = (weight.detach().abs() for weight in net.parameters())
    scores = {"1.weight": first * second.sum(0)[:, None], "2.weight": second * first.sum(1)}
    found = synflow.prune(net, EXAMPLES, sparsity=0.6, seed=0, iterations=1)
    same(found, scores, mask.live_kernels(7 * 64 + 35, 0.6))
    # Conservation (Tanaka et al. 2020, theorem 1): each layer's scores sum to R.
    assert scores["1.weight"].sum().item() == pytest.approx(scores["2.weight"].sum().item())


def test_synflow_in_rounds_keeps_every_layer_where_one_round_does_not() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64), *(nn.Linear(64, 64) for _ in range(4)), nn.Linear(64, 2)]
    net = nn.Sequential(nn.Flatten(), *layers)
    initialize(net, "lecun_normal")
    live = {
        rounds: [int(m.sum()) for m in synflow.prune(net, EXAMPLES, sparsity=0.999, seed=0, iterations=rounds).values()]
        for rounds in (1, 100)
    }
    assert min(live[100]) >= 1
    assert min(live[1]) == 0


def test_magnitude_keeps_the_largest() -> None:
    net = mlp()
    weights = {name: weight.abs() for name, weight in kernels(net).items()}
    live = mask.live_kernels(sum(weight.numel() for weight in weights.values()), 0.75)
    same(magnitude.prune(net, EXAMPLES, sparsity=0.75, seed=0), weights, live)


def test_erdos_renyi_kernel_shares_by_hand() -> None:
    # Kernels 4x1x3x3, 8x4x1x1, 10x8: sums of axes 11, 14, 18; 36, 32 and 80 weights. Of 43 live ones each gets its sum.
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 1), nn.Flatten(), nn.Linear(8, 10))
    shapes = [tuple(weight.shape) for weight in kernels(net).values()]
    assert shapes == [(4, 1, 3, 3), (8, 4, 1, 1), (10, 8)]
    live = {
        kept: [int(m.sum()) for m in random_erk.prune(net, EXAMPLES, sparsity=1 - kept / 148, seed=0).values()]
        for kept in (43, 129)
    }
    assert live[43] == [11, 14, 18]
    # 3 x 14 exceeds the second size; of the remaining 97, 97 x 11 / 29 exceeds the first; the last gets the rest.
    assert live[129] == [36, 32, 61]


def test_random_masks_keep_the_same_weights_whatever_the_shares() -> None:
    # Both use the same scores, so they differ only in how many weights a layer keeps.
    net = mlp()
    layerwise, erk = (p.prune(net, EXAMPLES, sparsity=0.9, seed=4) for p in (random, random_erk))
    for name in layerwise:
        assert (layerwise[name] <= erk[name]).all() or (erk[name] <= layerwise[name]).all()


def test_too_many_batches() -> None:
    with pytest.raises(SettingError, match=r"pruner\.batches=4 of 32 need more than the 96 training images"):
        snip.prune(mlp().float(), EXAMPLES, sparsity=0.5, seed=0, batches=4, batch_size=32, mode="train")


def test_scores_that_are_no_numbers() -> None:
    net = mlp().float()
    nn.init.constant_(next(net.parameters()), float("nan"))
    with pytest.raises(SettingError, match="scores that are not finite"):
        snip.prune(net, EXAMPLES, sparsity=0.5, seed=0, **ONE)
