"""`hydra.utils.instantiate(config.model)`: makes the net that a file of conf/model/ describes."""

from typing import Any

from torch import nn

from samgap.models import count
from samgap.models.init import initialize
from samgap.targets import call, locate


def model(
    shape: tuple[int, int, int],
    classes: int,
    *,
    code: str,
    name: str,
    width: float,
    init: str,
    params: float | None = None,
    batch_norm: str = "local",
    **own: Any,
) -> nn.Module:
    """Return a net for images of `shape` (c, h, w) and `classes` classes, with weights from the global generator.

    conf/model/base.yaml explains the keys. `batch_norm` is accepted and ignored: it affects training, not the net.
    """
    if params is not None:
        width = count.width_of(code, own, params, shape, classes)
    net: nn.Module = call("model", locate(code, "model.code"), shape, classes, width=width, **own)
    initialize(net, init)
    return net
