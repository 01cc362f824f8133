import math

import pytest
import timm
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from samgap.errors import SettingError
from samgap.models.count import count, counts_of, nearest_width, prunable, width_of
from samgap.models.init import initialize
from samgap.models.make import model
from samgap.models.mlp import MLP
from samgap.models.resnet18 import ResNet18
from samgap.models.resnet50 import ResNet50

# (width, kernels, total), computed from the paper's description by hand.
RESNET18 = [
    (2, 11110, 11420), (4, 44012, 44622), (6, 98706, 99616), (8, 175192, 176402), (12, 393540, 395350),
    (16, 699056, 701466), (24, 1571592, 1575202), (32, 2792800, 2797610), (48, 6281232, 6288442),
    (64, 11164352, 11173962), (96, 25114656, 25129066), (128, 44643712, 44662922), (256, 178547456, 178585866),
]  # fmt: skip
MLPS = [
    (0.0625, 14314), (0.1, 23970), (0.125, 29631), (0.25, 61035), (0.5, 125810), (1, 266610), (2, 593210),
    (3, 979810), (4, 1426410), (5, 1933010), (8, 3812810), (10, 5366010), (20, 16732010),
]  # fmt: skip


def resnet18(width: float) -> nn.Module:
    return ResNet18((3, 32, 32), 10, width)


def mlp(width: float) -> nn.Module:
    return MLP((1, 28, 28), 10, width)


@pytest.mark.parametrize(("width", "kernels", "total"), RESNET18)
def test_resnet18_counts(width: int, kernels: int, total: int) -> None:
    with torch.device("meta"):
        counts = count(resnet18(width))
    assert (counts.prunable, counts.total) == (kernels, total)


@pytest.mark.parametrize(("width", "total"), MLPS)
def test_mlp_counts(width: float, total: int) -> None:
    with torch.device("meta"):
        assert count(mlp(width)).total == total


@pytest.mark.parametrize(
    ("width", "total"), [(16, 1993976), (32, 6917640), (48, 14771992), (64, 25557032), (80, 39272760)]
)
def test_resnet50_counts(width: int, total: int) -> None:
    with torch.device("meta"):
        assert count(ResNet50((3, 224, 224), 1000, width)).total == total


def test_resnet50_is_timm_s_where_that_one_has_its_width() -> None:
    ours, theirs = ResNet50((3, 64, 64), 1000, 64).eval(), timm.create_model("resnet50").eval()
    values = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


def test_blocks_of_a_resnet50_start_as_identities_after_initialization_too() -> None:
    net = ResNet50((3, 32, 32), 10, 2)
    initialize(net, "lecun_normal")
    assert all(not block.bn3.weight.any() and block.bn1.weight.all() for block in net.stages)
    # A block without a projection is the identity.
    features = torch.randn(2, 8, 4, 4).relu()
    assert torch.equal(net.stages[1](features), features)


def test_mlp_width_is_not_lost_to_rounding() -> None:
    # 100 * 0.29 is 28.999999999999996
    assert [layer.out_features for layer in mlp(0.29).layers if isinstance(layer, nn.Linear)] == [87, 29, 10]


def test_the_stem_scales_with_the_width() -> None:
    # The stem of timm's own ResNet always has 64 channels.
    assert resnet18(16).stem[0].out_channels == 16


@pytest.mark.parametrize("size", [8, 14, 28, 32, 33])
@pytest.mark.parametrize("channels", [1, 3])
def test_resnet18_takes_any_image(size: int, channels: int) -> None:
    net = ResNet18((channels, size, size), 7, 4)
    assert net(torch.randn(2, channels, size, size)).shape == (2, 7)


def test_nearest_width_finds_the_published_nets() -> None:
    for width, _, total in RESNET18[:8]:
        assert nearest_width(resnet18, total, 1) == width
    for width, total in MLPS:
        if round(width * 100) == width * 100:
            assert nearest_width(mlp, total, 0.01) == width


def test_nearest_width_of_two_takes_the_nearer() -> None:
    below, above = 44_622, 69_395  # 4 and 5 filters
    with torch.device("meta"):
        assert count(resnet18(5)).total == above
    assert nearest_width(resnet18, (below + above) / 2 - 1, 1) == 4
    assert nearest_width(resnet18, (below + above) / 2 + 1, 1) == 5


def test_nearest_width_refuses_what_no_net_comes_near() -> None:
    with pytest.raises(SettingError, match=r"model\.params=10 is too few"):
        nearest_width(resnet18, 10, 1)


class Deep(nn.Module):
    """Linear layers; `most` limits the width, and the width is not the first setting."""

    def __init__(
        self, shape: tuple[int, int, int], classes: int, depth: int = 1, most: float = 1e9, width: float = 9
    ) -> None:
        super().__init__()
        width = int(min(width, most))
        inner = [layer for _ in range(depth) for layer in (nn.ReLU(), nn.Linear(width, width))]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width), *inner, nn.Linear(width, classes))


WIDTH_STEP = 1


@pytest.mark.parametrize("depth", [1, 6])
def test_counts_and_widths_are_of_the_net_with_its_own_settings(depth: int) -> None:
    code, shape = f"{__name__}.Deep", (1, 8, 8)
    for width in (20, 50):
        total = count(Deep(shape, 10, depth, width=width)).total
        assert counts_of(code, {"depth": depth}, width, shape, 10).total == total
        assert width_of(code, {"depth": depth}, total, shape, 10) == width
        made = {"code": code, "name": "deep", "init": "torch", "depth": depth}
        assert count(model(shape, 10, width=9, params=total, **made)).total == total
    with pytest.raises(
        SettingError, match=r"keys of model must be those of .*got an unexpected keyword argument 'dept'"
    ):
        width_of(code, {"dept": depth}, 1000, shape, 10)
    with pytest.raises(
        SettingError, match=r"params=1e\+06 cannot be met: the net has \d+ parameters at model.width=64"
    ):
        width_of(code, {"depth": depth, "most": 50}, 1e6, shape, 10)


def test_kernels_are_not_the_parameters_of_norm_layers() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LayerNorm([4, 6, 6]), nn.Flatten(), nn.Linear(144, 2))
    assert [name for name, _ in prunable(net)] == ["0.weight", "3.weight"]
    with pytest.raises(SettingError, match=r"1\.weight has no weights before the net's first pass"):
        count(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))


@pytest.mark.parametrize(
    "layer", [nn.Linear(300, 400), nn.Conv1d(60, 400, 5), nn.Conv2d(24, 400, 5, groups=2), nn.Conv3d(40, 400, 2),
              nn.ConvTranspose2d(75, 400, 2)]
)  # fmt: skip
def test_kernels_are_drawn_with_a_variance_of_one_over_their_inputs(layer: nn.Module) -> None:
    torch.manual_seed(0)
    initialize(layer, "lecun_normal")
    assert float(layer.weight.detach().std()) == pytest.approx(
        (300 if layer.weight.ndim != 5 else 320) ** -0.5, rel=0.02
    )
    assert not layer.bias.any()
    with pytest.raises(SettingError, match="cannot draw the weights of the net, which are computed"):
        initialize(weight_norm(nn.Linear(2, 3)), "lecun_normal")


@pytest.mark.parametrize("width", [0, -1, 2.5])
def test_resnet18_needs_whole_filters(width: float) -> None:
    with pytest.raises(SettingError, match=r"model\.width.*whole number"):
        resnet18(width)


def test_mlp_needs_neurons() -> None:
    with pytest.raises(SettingError, match=r"model\.width must be at least 0\.01"):
        mlp(0.005)


def test_lecun_normal_is_flax_default() -> None:
    torch.manual_seed(0)
    net = mlp(4)
    initialize(net, "lecun_normal")
    for layer in net.layers:
        if isinstance(layer, nn.Linear) and layer.weight.numel() > 100_000:
            std = math.sqrt(1 / layer.in_features)
            assert layer.weight.std().item() == pytest.approx(std, rel=0.01)
            # Truncated at two standard deviations of the normal before truncation, which is wider by 1 / 0.8796.
            assert layer.weight.abs().max().item() <= 2 * std / 0.87962566 + 1e-6
            assert layer.weight.abs().max().item() > 1.95 * std / 0.87962566
        if isinstance(layer, nn.Linear):
            assert not layer.bias.any()


def test_torch_init_is_left_as_drawn() -> None:
    torch.manual_seed(0)
    net = mlp(1)
    before = [weight.clone() for weight in net.parameters()]
    initialize(net, "torch")
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_unknown_init() -> None:
    with pytest.raises(SettingError, match=r"model\.init must be lecun_normal or torch, got 'he'"):
        initialize(mlp(0.1), "he")
