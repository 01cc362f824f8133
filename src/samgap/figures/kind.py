"""What every kind of figure is: from the runs of a sweep to numbers, verdicts, charts and a picture of them.

A file of conf/draw/ names one and says its keys.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from samgap.errors import SettingError
from samgap.figures import heading
from samgap.figures.chart import Chart, Map
from samgap.figures.output import Evaluated, Judgment
from samgap.targets import locate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The two keys by which results of before the kinds had names say how they are drawn.
BEFORE = {
    ("gap.draw", "verdict.verdicts"): "gap.kinds.Gap",
    ("gap.draw", "contrast.verdicts"): "gap.kinds.Contrast",
    ("rho.draw", "best_rho.verdicts"): "gap.kinds.BestRho",
    ("convergence.draw", "verdict.verdicts"): "convergence.kinds.Convergence",
    ("nonuniformity.draw", "verdict.verdicts"): "sharpness.kinds.Sharpness",
    ("surface.draw", "verdict.verdicts"): "sharpness.kinds.Surfaces",
}


@dataclass(frozen=True, kw_only=True)
class Kind(ABC):
    """Its fields are the keys of its file in conf/draw/."""

    title: str
    published: Any = None  # a table of samgap/reference/published, or a list of some
    published_data: str | None = None  # what the published runs were trained on

    files: ClassVar[tuple[str, ...]] = ()  # of a run, read beside its record: metrics.csv, probes
    main: ClassVar[str | None] = None  # the name of the chart that a W&B dashboard shows

    @property
    def settings(self) -> dict[str, Any]:
        """Its keys and their values."""
        return asdict(self)

    @abstractmethod
    def evaluate(self, root: Path, name: str, scale: str, protocol: str) -> Evaluated:
        """Read the runs of a sweep and work everything out.

        Args:
            root: where results lie.
            name, scale: of the sweep.
            protocol: paper, holdout, loso or quadratic: whose rho is drawn, where one is chosen.

        Raises:
            SettingError: there are no such runs, or not of what this kind shows.
        """

    def judge_again(self, report: Mapping[str, Any], frame: pd.DataFrame) -> Sequence[Judgment]:
        """The verdicts of a result that was kept without its runs, by today's rules, where its numbers are enough.

        Args:
            report, frame: its json and csv.

        Raises:
            SettingError: they are not.
        """
        raise SettingError(
            f"{report['name']}/{report['scale']} was kept without its runs, and its numbers are too few for a verdict: "
            "the one that it has is by the rules of its day."
        )

    @abstractmethod
    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> Sequence[Chart | Map]:
        """What is drawn for figure, page and W&B, of a study of now as of a kept result.

        Args:
            frame: the study's, or the csv that is kept of it.
            facts: its statistics, or the json.
        """

    def draw(self, frame: pd.DataFrame, report: Mapping[str, Any], *, titled: bool = True) -> "Figure":
        """Draw a study of now or a kept result.

        Args:
            frame: see `charts`.
            report: its json.
            titled: False leaves title and footnote to a caption.
        """
        from samgap.figures import picture

        charts: Any = self.charts(frame, report)
        head, foot = (f"{self.title}\n{heading.answer(report)}", heading.footnote(report)) if titled else ("", "")
        return picture.draw(charts, head, foot)


def made(settings: Mapping[str, Any]) -> Kind:
    """The kind that a `draw` group, or a kept result, describes.

    Raises:
        SettingError: it describes none.
    """
    target = settings.get("_target_")
    known = dict(settings)
    if "plotted" in known:
        before = str(target).removeprefix("samgap.figures."), str(known["verdict"]).removeprefix("samgap.results.")
        target = f"samgap.figures.{BEFORE[before]}" if before in BEFORE else None
    kind = locate(target) if target is not None else None
    if not (isinstance(kind, type) and issubclass(kind, Kind)):
        raise SettingError("draw must be a file of conf/draw/, such as draw=gap, and it names no kind of figure.")
    return kind(**{key: known[key] for key in (field.name for field in fields(kind)) if key in known})
