"""samgap: does the accuracy that SAM gains over SGD grow as a network gets more parameters?

A result passes through these stages: config, data, net (width, mask), task (SGD or SAM step), record, table of gaps,
figure and verdict. The files in this order:

conf/figure/fig8/smoke.yaml, data/sets.py, models/resnet18.py, pruning/mask.py, optim/sam.py, training/task.py,
training/run.py, runs/records.py, figures/gap/cells.py, figures/gap/charts.py.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samgap.notebook import Loaded


def load(figure: str, *overrides: str, **source: Any) -> "Loaded":
    """Return a figure's numbers as pandas frames; see `samgap.notebook.load`."""
    from samgap import notebook  # imports pandas, which is slow and which most commands do not need

    return notebook.load(figure, *overrides, **source)
