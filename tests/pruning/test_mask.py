import copy
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD

from samgap.errors import SettingError
from samgap.models.count import count
from samgap.models.mlp import MLP
from samgap.models.resnet18 import ResNet18
from samgap.optim.asam import ASAM
from samgap.optim.gsam import GSAM
from samgap.optim.sam import SAM
from samgap.optim.sam_unnormalized import SAMUnnormalized
from samgap.pruning import mask, random
from tests.pruning.nets import EXAMPLES

sizes_and_weights = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=8)


def shared_one_by_one(weights: list[int], live: int, sizes: list[int]) -> list[int]:
    """Webster's method as published: each next one goes to the layer with the largest weight / (given + 1/2)."""
    given_ = [0] * len(sizes)
    for _ in range(live):
        able = [layer for layer in range(len(sizes)) if given_[layer] < sizes[layer]]
        best = max(able, key=lambda layer: (Fraction(2 * weights[layer], 2 * given_[layer] + 1), -layer))
        given_[best] += 1
    return given_


@given(sizes_and_weights, st.data())
def test_shares_are_divided_by_webster_s_method(layers: list[tuple[int, int]], data: st.DataObject) -> None:
    sizes, weights = [size for size, _ in layers], [weight for _, weight in layers]
    live = data.draw(st.integers(0, sum(sizes)))
    found, expected = mask.shares(weights, live, sizes), shared_one_by_one(weights, live, sizes)
    assert sum(found) == live
    assert all(0 <= have <= size for have, size in zip(found, sizes, strict=True))
    # Layers of equal weight may get the last weight in either order.
    assert sorted(zip(weights, found, strict=True)) == sorted(zip(weights, expected, strict=True))


@given(sizes_and_weights, st.data())
def test_shares_grow_with_the_whole(layers: list[tuple[int, int]], data: st.DataObject) -> None:
    sizes, weights = [size for size, _ in layers], [weight for _, weight in layers]
    live = data.draw(st.integers(0, sum(sizes) - 1))
    fewer, more = mask.shares(weights, live, sizes), mask.shares(weights, live + 1, sizes)
    assert all(a <= b for a, b in zip(fewer, more, strict=True))


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12), st.floats(0, 0.99))
def test_shares_are_in_proportion(sizes: list[int], sparsity: float) -> None:
    live = mask.live_kernels(sum(sizes), sparsity)
    for have, size in zip(mask.shares(sizes, live, sizes), sizes, strict=True):
        assert abs(have - live * size / sum(sizes)) <= len(sizes)


def net() -> nn.Module:
    torch.manual_seed(0)
    return ResNet18((1, 8, 8), 10, 4)


@pytest.mark.parametrize("sparsity", [0, 0.3, 0.5157, 0.9, 0.99])
def test_random_pruning_meets_its_sparsity_to_the_last_weight(sparsity: float) -> None:
    # T22, T33: an exact count, and sparsity 0 keeps every weight.
    model = net()
    masks = random.prune(model, EXAMPLES, sparsity=sparsity, seed=0)
    kernels = count(model).prunable
    assert sum(int(m.sum()) for m in masks.values()) == round((1 - sparsity) * kernels)
    mask.apply(model, masks)
    assert mask.params_live(model, masks) == count(model).total - kernels + round((1 - sparsity) * kernels)


def test_masks_of_one_seed_are_nested_and_of_two_differ() -> None:
    sparse, dense = (random.prune(net(), EXAMPLES, sparsity=s, seed=0) for s in (0.8, 0.4))
    assert all((sparse[name] & ~dense[name]).sum() == 0 for name in dense)
    other = random.prune(net(), EXAMPLES, sparsity=0.4, seed=1)
    assert any(not torch.equal(other[name], dense[name]) for name in dense)


def test_the_mask_does_not_depend_on_the_weights_or_the_global_generator() -> None:
    first = random.prune(net(), EXAMPLES, sparsity=0.5, seed=0)
    torch.manual_seed(77)
    second = random.prune(ResNet18((1, 8, 8), 10, 4), EXAMPLES, sparsity=0.5, seed=0)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_biases_and_batch_norm_stay_dense() -> None:
    names = set(random.prune(net(), EXAMPLES, sparsity=0.9, seed=0))
    assert names == {name for name, weight in net().named_parameters() if weight.ndim >= 2}
    assert not any("bn" in name or "bias" in name for name in names)


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5])
def test_sparsity_outside_its_range(sparsity: float) -> None:
    with pytest.raises(SettingError, match=r"pruner\.sparsity must be from 0 up to but not including 1"):
        random.prune(net(), EXAMPLES, sparsity=sparsity, seed=0)


def test_equal_scores_keep_the_exact_count() -> None:
    # T22: the official code prunes all weights that tie with the threshold.
    kept = mask.keep_largest(torch.zeros(10), 3)
    assert kept.tolist() == [True] * 3 + [False] * 7


def test_layers_of_one_score_are_not_divided_by_position() -> None:
    distinct = torch.arange(1.0, 401)
    for scores in ({"a": torch.zeros(5), "b": distinct}, {"b": distinct, "a": torch.zeros(5)}):
        for live in (1, 400, 405):  # none of the layer, none, all
            assert sum(int(layer.sum()) for layer in mask.globally(scores, live).values()) == live
        with pytest.raises(SettingError, match=r"All 5 weights of a have the same score \(0\)"):
            mask.globally(scores, 402)
    # Position may decide ties inside a layer, and ties of few weights.
    tied = {"a": torch.zeros(4), "b": distinct}
    assert int(mask.globally(tied, 402)["a"].sum()) == 2
    half = {"a": torch.tensor([0.0, 1] * 200), "b": torch.tensor([0.0, 0, 0, 2])}
    assert [int(layer.sum()) for layer in mask.globally(half, 300).values()] == [299, 1]


@pytest.mark.parametrize("variant", [SAM, SAMUnnormalized, ASAM, GSAM])
def test_pruned_weights_stay_zero_and_get_no_share_of_rho(variant: type[SAM]) -> None:
    # T1: if only the weights were masked, most of eps would lie in pruned coordinates.
    torch.manual_seed(0)
    model = MLP((1, 8, 8), 10, 0.3)
    masks = random.prune(model, EXAMPLES, sparsity=0.9, seed=0)
    mask.apply(model, masks)
    ascents: list[dict[str, Tensor]] = []
    optimizer = variant(SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3), 0.5, model)
    before: list[dict[str, Tensor]] = []
    images, labels = torch.rand(32, 1, 8, 8), torch.arange(32) % 10

    def closure() -> Tensor:
        optimizer.zero_grad()
        before.append(copy.deepcopy({name: w.detach() for name, w in model.named_parameters()}))
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
        first, second = before[-2:]
        ascents.append({name: second[name] - first[name] for name in first})
    for name, weight in model.named_parameters():
        if name in masks:
            pruned = ~masks[name]
            assert pruned.any()
            for tensor in (weight, weight.grad, optimizer.state[weight]["momentum_buffer"]):
                assert not tensor[pruned].any()
            assert not any(ascent[name][pruned].any() for ascent in ascents)
    if variant in (SAM, GSAM):
        lengths = [torch.cat([eps.flatten() for eps in ascent.values()]).norm().item() for ascent in ascents]
        assert lengths == pytest.approx([0.5] * 5, rel=1e-4)
