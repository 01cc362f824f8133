import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samgap.curvature.examples import Examples, Subject
from samgap.curvature.rules import DIRECTIONS
from samgap.curvature.surface import directions, surface
from samgap.curvature.vectors import Coordinates
from samgap.errors import SettingError
from samgap.losses import cross_entropy, squared
from tests.curvature.nets import NETS, conv, examples, explicit, masked, mlp


def flat(direction: dict[str, Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in direction.values()])


@pytest.mark.parametrize("kind", DIRECTIONS)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("build", NETS)
def test_a_point_is_the_loss_of_the_net_that_lies_there(build, sparse: bool, kind: str) -> None:
    net, data = build(), examples()
    masks = masked(net) if sparse else {}
    along = first, second = directions(Subject(net, cross_entropy, data, masks), kind)
    losses, _ = surface(Subject(net, cross_entropy, data, masks), [-1, 0, 2], [0, 0.5], along, block=3)
    assert losses.shape == (3, 2)
    net.eval()
    with torch.no_grad():
        assert losses[1, 0] == pytest.approx(cross_entropy(net(data.inputs), data.labels).item(), rel=1e-14)
        for name, weight in net.named_parameters():
            weight += 2 * first[name] + 0.5 * second[name]
        assert losses[2, 1] == pytest.approx(cross_entropy(net(data.inputs), data.labels).item(), rel=1e-12)
    assert losses[2, 1] != pytest.approx(losses[1, 0], rel=1e-3)


def test_a_quadratic_in_closed_form() -> None:
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = nn.Linear(4, 3, bias=False).double()
    data = Examples(inputs, net(inputs).detach())
    grid = [-2.0, 0, 0.25, 3]
    along = directions(Subject(net, squared, data), "raw", seed=3)
    losses, norms = surface(Subject(net, squared, data), grid, grid, along)
    assert norms == pytest.approx((1, 1))
    ways = [way["weight"].numpy() for way in along]
    for i, x in enumerate(grid):
        for j, y in enumerate(grid):
            moved = inputs.numpy() @ (x * ways[0] + y * ways[1]).T
            assert losses[i, j] == pytest.approx((moved**2).sum() / 5, rel=1e-12, abs=1e-25)


@pytest.mark.parametrize("sparse", [False, True])
def test_along_eigenvectors_the_loss_rises_as_the_largest_eigenvalues_say(sparse: bool) -> None:
    net = mlp()
    masks = masked(net) if sparse else {}
    data = examples()
    data = Examples(data.inputs, net.eval()(data.inputs).detach())  # the loss and its gradient are 0 at these weights
    matrix = explicit(net, squared, data, masks)
    values, vectors = np.linalg.eigh(matrix)
    along = directions(Subject(net, squared, data, masks), "eigen")
    coordinates = Coordinates.of(net, masks)
    for way, vector in zip(along, vectors.T[::-1], strict=False):
        vector = vector * np.sign(vector[np.abs(vector).argmax()])
        np.testing.assert_allclose(coordinates.join(way).numpy(), vector, atol=1e-3)
    step = 1e-3
    losses, _ = surface(Subject(net, squared, data, masks), [0, step], [0, step], along)
    assert losses[1, 0] == pytest.approx(values[-1] / 2 * step**2, rel=1e-2)
    assert losses[0, 1] == pytest.approx(values[-2] / 2 * step**2, rel=1e-2)


@pytest.mark.parametrize("sparse", [False, True])
def test_filters_have_the_length_of_the_weights(sparse: bool) -> None:
    net = conv()
    masks = masked(net) if sparse else {}
    along = directions(Subject(net, squared, examples(), masks), "filter")
    for way in along:
        for name, weight in net.named_parameters():
            if weight.ndim < 2:
                assert not way[name].any()
                continue
            for row, other in zip(way[name], weight.detach(), strict=True):
                assert row.square().sum().sqrt().item() == pytest.approx(other.square().sum().sqrt().item())
                assert not torch.allclose(row, other)
    _, norms = surface(Subject(net, squared, examples(), masks), [0], [0], along)
    kernels = torch.cat([weight.detach().flatten() for weight in net.parameters() if weight.ndim >= 2])
    assert norms == pytest.approx([kernels.norm().item()] * 2)


def test_a_dead_neuron_stays() -> None:
    net = mlp()
    weight = net.layers[1].weight
    mask = torch.ones_like(weight) > 0
    mask[0] = False
    with torch.no_grad():
        weight[0] = 0
    way, _ = directions(Subject(net, squared, examples(), {"layers.1.weight": mask}), "filter")
    assert not way["layers.1.weight"][0].any()
    assert torch.isfinite(flat(way)).all()
    assert way["layers.1.weight"][1:].all()


def test_dense_and_sparse_nets_are_cut_alike() -> None:
    net = mlp()
    dense = directions(Subject(net, squared, examples()), "raw")
    masks = masked(net)
    sparse = directions(Subject(net, squared, examples(), masks), "raw")
    for whole, part in zip(dense, sparse, strict=True):
        assert flat(part).norm().item() == pytest.approx(1)
        live = torch.cat([masks.get(name, torch.ones_like(w) > 0).flatten() for name, w in net.named_parameters()])
        assert not flat(part)[~live].any()
        ratio = flat(part)[live] / flat(whole)[live]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


def test_directions_are_two_and_the_seed_s() -> None:
    first, second = (flat(way) for way in directions(Subject(mlp(), squared, examples()), "raw"))
    again, _ = directions(Subject(mlp(), squared, examples()), "raw")
    other, _ = directions(Subject(mlp(), squared, examples()), "raw", seed=1)
    assert torch.equal(first, flat(again))
    assert abs(first @ second) < 0.5
    assert abs(first @ flat(other)) < 0.5


@pytest.mark.parametrize("broken", [False, True])
def test_the_net_is_left_as_it_was(broken: bool) -> None:
    net = conv()
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    along = directions(Subject(net, squared, examples()), "filter")
    calls = []

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        calls.append(len(labels))
        if broken and len(calls) == 3:
            raise ZeroDivisionError
        return squared(logits, labels)

    def cut() -> None:
        surface(Subject(net, loss, examples()), [0, 1], [0, 1], along)

    if broken:
        with pytest.raises(ZeroDivisionError):
            cut()
    else:
        cut()
    assert len(calls) == (3 if broken else 4)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in net.parameters())


def test_blocks_move_nothing_beyond_rounding() -> None:
    net, data = conv(), examples()
    along = directions(Subject(net, squared, data), "raw")
    whole, parts = (surface(Subject(net, squared, data), [0, 1], [2], along, block=block)[0] for block in (500, 2))
    np.testing.assert_allclose(parts, whole, rtol=1e-13)


def test_bad_input() -> None:
    with pytest.raises(SettingError, match="one of eigen, raw, filter, got 'layer'"):
        directions(Subject(mlp(), squared, examples()), "layer")
    along = directions(Subject(mlp(), squared, examples()), "raw")
    with pytest.raises(SettingError, match="at least one x and one y, got 0 and 1"):
        surface(Subject(mlp(), squared, examples()), [], [0], along)
    line = nn.Linear(1, 1, bias=False).double()
    with pytest.raises(SettingError, match="Wanted 2 eigenvalues of an operator that has 1"):
        directions(Subject(line, squared, Examples(torch.ones(1, 1), torch.zeros(1, 1))), "eigen")
