"""`hydra.utils.instantiate(config.model)`: makes the nets that a file of conf/model/ describes."""

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
    """The net for images of `shape` (c, h, w) and so many classes, drawn from the global generator.

    See conf/model/base.yaml. `batch_norm` is how a run takes statistics; the net is the same.
    """
    if params is not None:
        width = count.width_of(code, params, shape, classes)
    net: nn.Module = call("model", locate(code, "model.code"), shape, classes, width=width, **own)
    initialize(net, init)
    return net
