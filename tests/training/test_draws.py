"""Both passes of SAM share random draws, and the random state is not copied if no draws are possible."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from timm.layers import DropPath
from timm.models.resnet import BasicBlock
from torch import nn

from samgap import losses
from samgap.models.factorization import Factorization
from samgap.models.mlp import MLP
from samgap.models.resnet18 import ResNet18
from samgap.models.resnet50 import ResNet50
from samgap.pruning import mask
from samgap.training import draws
from samgap.training.run import run
from tests.training.nets import Conv, Sometimes

Tiny = Callable[..., dict[str, Any]]
LOSS = partial(losses.cross_entropy)


def hooked(add: Callable[[nn.Linear], object]) -> nn.Module:
    part = nn.Linear(2, 2)
    add(part)
    return nn.Sequential(part)


@pytest.mark.parametrize("net", [MLP, ResNet18, ResNet50, Factorization])
def test_nets_of_samgap_draw_nothing(net: type[nn.Module]) -> None:
    made = net((1, 8, 8), 10, 2)
    mask.apply(made, {name: torch.ones_like(w, dtype=torch.bool) for name, w in mask.prunable(made)})
    assert not draws.possible(made, LOSS)
    assert draws.possible(made, lambda logits, labels: logits.mean())


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)),
        nn.Sequential(nn.RReLU()),
        BasicBlock(4, 4, drop_path=DropPath(0.5)),
        Conv((1, 8, 8), 10),  # a user's class is not known to draw nothing
        hooked(lambda part: part.register_forward_hook(lambda *_: None)),
        hooked(lambda part: part.register_full_backward_hook(lambda *_: None)),
        hooked(lambda part: part.weight.register_hook(torch.randn_like)),
        hooked(lambda part: part.weight.register_post_accumulate_grad_hook(lambda _: None)),
        hooked(lambda part: setattr(part, "forward", nn.functional.dropout)),
        hooked(lambda part: nn.utils.parametrizations.weight_norm(part)),
    ],
)
def test_a_net_may_draw_unless_all_its_code_is_known(net: nn.Module) -> None:
    assert draws.possible(net, LOSS)


class Counted(Callback):
    """Counts copies of the random state during steps."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.copies = patch, 0

    def on_train_batch_start(self, *_: Any) -> None:
        for name in ("get_rng_state", "set_rng_state"):
            self.patch.setattr(torch, name, partial(self.copied, getattr(torch, name)))

    def copied(self, real: Callable[..., Any], *arguments: Any) -> Any:
        self.copies += 1
        return real(*arguments)

    def on_train_batch_end(self, *_: Any) -> None:
        self.patch.undo()


class Noise(Counted):
    """`Counted` that also draws a random number after each backward pass."""

    def on_after_backward(self, *_: Any) -> None:
        torch.rand(())


@pytest.mark.parametrize(
    ("overrides", "kind", "copies"),
    [
        ("", Counted, 0),
        ("model=resnet18 model.width=2", Counted, 0),
        ("", Noise, 2 * 6),
        ("model.code=tests.training.nets.Conv model.width=2", Counted, 2 * 6),
    ],
)
def test_a_step_copies_the_random_state_only_if_it_may_draw(
    overrides: str, kind: type[Counted], copies: int, tiny: Tiny, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        counted = kind(patch)
        record = run(tiny("ascent.rho=0.1", *overrides.split()), tmp_path, callbacks=[counted])
    assert record.steps == 6
    assert counted.copies == copies


@pytest.mark.parametrize(("m", "passes"), [("null", 12), ("16", 24)])
def test_passes_share_a_draw_that_comes_late(
    m: str, passes: int, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sometimes, "factors", [])
    net = "model.code=tests.training.nets.Sometimes", "model.width=2", "+model.batch_norm=local"
    run(tiny("ascent.rho=0.1", f"ascent.m={m}", *net), tmp_path)
    found = Sometimes.factors
    assert len(found) == passes
    assert found[::2] == found[1::2]
    assert len(set(found)) == 1 + passes // 4
