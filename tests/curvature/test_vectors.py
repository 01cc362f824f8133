import pytest
import torch
from torch import nn

from samgap.curvature.examples import Examples, frozen
from samgap.curvature.vectors import Coordinates
from samgap.errors import SettingError
from tests.curvature.nets import conv, examples, masked, mlp


def test_vectors_hold_the_live_coordinates_in_the_net_s_order() -> None:
    net = mlp()
    masks = masked(net)
    coordinates = Coordinates.of(net, masks)
    expected = [
        weight.detach()[masks[name]] if name in masks else weight.detach() for name, weight in net.named_parameters()
    ]
    assert torch.equal(coordinates.join(coordinates.weights(net)), torch.cat([part.flatten() for part in expected]))
    assert coordinates.size == sum(part.numel() for part in expected) < 125


def test_split_is_the_inverse_of_join_and_0_where_dead() -> None:
    net = mlp()
    masks = masked(net)
    coordinates = Coordinates.of(net, masks)
    vectors = torch.randn(2, 3, coordinates.size)
    parts = coordinates.split(vectors)
    assert torch.equal(coordinates.join(parts), vectors)
    for name, mask in masks.items():
        assert parts[name].shape == (2, 3, *mask.shape)
        assert not parts[name][..., ~mask].any()
        assert parts[name][..., mask].all()


def test_what_is_not_trained_is_no_coordinate() -> None:
    net = mlp()
    first = next(net.parameters())
    first.requires_grad_(False)
    assert Coordinates.of(net).size == 125 - first.numel()
    net = mlp()
    masks = masked(net)
    name = next(iter(masks))
    before = Coordinates.of(net, masks).size
    net.get_parameter(name).requires_grad_(False)  # a frozen layer is pruned like others
    assert Coordinates.of(net, masks).size == before - int(masks[name].sum())


def test_masks_of_another_net() -> None:
    net = mlp()
    masks = masked(net)
    with pytest.raises(SettingError, match="prunes weights that are not 0"):
        Coordinates.of(mlp(), masks)
    with pytest.raises(SettingError, match="'nothing' must be a bool tensor of the shape"):
        Coordinates.of(net, {"nothing": torch.ones(3) > 0})
    name, mask = next(iter(masks.items()))
    with pytest.raises(SettingError, match="must be a bool tensor of the shape"):
        Coordinates.of(net, {name: mask.T})
    with pytest.raises(SettingError, match="must be a bool tensor of the shape"):
        Coordinates.of(net, {name: mask.float()})


def test_a_net_without_live_weights() -> None:
    with pytest.raises(SettingError, match="no trained weight that lives"):
        Coordinates.of(nn.Flatten())


def test_examples_that_do_not_fit() -> None:
    data = examples()
    with pytest.raises(SettingError, match="got 7 and 6"):
        Examples(data.inputs, data.labels[:6])
    with pytest.raises(SettingError, match="got 0 and 0"):
        Examples(data.inputs[:0], data.labels[:0])
    with pytest.raises(SettingError, match="size of at least 1, got 0"):
        next(data.blocks(0, data.inputs))


def test_blocks_are_the_part_in_its_order() -> None:
    data = examples()
    blocks = list(data.blocks(3, torch.zeros(1)))
    assert [len(labels) for _, labels in blocks] == [3, 3, 1]
    assert torch.equal(torch.cat([inputs for inputs, _ in blocks]), data.inputs.float())
    assert torch.equal(torch.cat([labels for _, labels in blocks]), data.labels)


def test_batch_norm_without_running_statistics_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, track_running_stats=False))
    with pytest.raises(SettingError, match="running statistics of batch norm '1'"), frozen(net):
        pass


def test_a_net_is_in_evaluation_mode_and_is_restored_module_by_module() -> None:
    net = conv()
    net.train()
    net[1].eval()
    state = torch.get_rng_state()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    own = net[1].running_mean

    def spoil() -> None:
        with frozen(net):
            assert not any(module.training for module in net.modules())
            torch.rand(3)
            net[1].running_var.add_(1)
            net[1].running_mean = torch.zeros(3)
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        spoil()
    assert [module.training for module in net] == [True, False, True, True, True]
    assert net.training
    assert torch.equal(torch.get_rng_state(), state)
    assert net[1].running_mean is own
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
