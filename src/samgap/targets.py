"""From a dotted path to the object that it names."""

import pydoc
from collections.abc import Mapping
from typing import Any

from samgap.errors import SettingError, said

# How a figure is drawn, as results and sweeps of before these modules moved say it.
MOVED = {
    "samgap.results.study.evaluate": "samgap.figures.gap.study.evaluate",
    "samgap.results.convergence.evaluate": "samgap.figures.convergence.study.evaluate",
    "samgap.results.flatness.evaluate": "samgap.figures.sharpness.study.evaluate",
    "samgap.results.surfaces.evaluate": "samgap.figures.sharpness.surfaces.evaluate",
    "samgap.figures.gap.draw": "samgap.figures.gap.draw.draw",
    "samgap.figures.rho.draw": "samgap.figures.gap.draw_best_rho.draw",
    "samgap.figures.convergence.draw": "samgap.figures.convergence.draw.draw",
    "samgap.figures.nonuniformity.draw": "samgap.figures.sharpness.draw.draw",
    "samgap.figures.surface.draw": "samgap.figures.sharpness.draw_surfaces.draw",
    "samgap.results.verdict.verdicts": "samgap.figures.gap.trend.verdicts",
    "samgap.results.contrast.verdicts": "samgap.figures.gap.contrast.verdicts",
    "samgap.results.best_rho.verdicts": "samgap.figures.gap.best_rho.verdicts",
    "samgap.results.plotted.gaps": "samgap.figures.gap.plots.gaps",
    "samgap.results.plotted.best_rho": "samgap.figures.gap.plots.best_rho",
    "samgap.results.plotted.convergence": "samgap.figures.convergence.plots.convergence",
    "samgap.results.plotted.flatness": "samgap.figures.sharpness.plots.flatness",
    "samgap.results.plotted.surfaces": "samgap.figures.sharpness.plots.surfaces",
}


def locate(target: str) -> Any:
    """The object at a dotted path.

    Raises:
        SettingError: there is none.
    """
    try:
        found = pydoc.locate(MOVED.get(target, target)) if isinstance(target, str) else None
    except pydoc.ErrorDuringImport as error:
        raise SettingError(f"_target_ is {target}, and importing it fails ({error.value}).") from error
    if found is None:
        raise SettingError(f"_target_ must be the dotted path of something importable, got {said(target)}.")
    return found


def options(group: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a part: its group without what names it."""
    return {key: value for key, value in group.items() if key != "name" and not key.startswith("_")}
