"""The interface of a kind of figure, which turns the runs of a sweep into numbers, verdicts and charts.

A file of conf/draw/ selects a kind and sets its keys.
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
from samgap.figures.output import Judgment, Study
from samgap.figures.table import Table, collect
from samgap.rules import Rule, check
from samgap.runs import sweeps
from samgap.targets import locate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# (plotted, verdict) in older results -> the kind that replaced these keys.
BEFORE = {
    ("gap.draw", "verdict.verdicts"): "gap.kinds.Gap",
    ("gap.draw", "contrast.verdicts"): "gap.kinds.Contrast",
    ("rho.draw", "best_rho.verdicts"): "gap.kinds.BestRho",
    ("convergence.draw", "verdict.verdicts"): "convergence.kinds.Convergence",
    ("nonuniformity.draw", "verdict.verdicts"): "sharpness.kinds.Sharpness",
}


@dataclass(frozen=True, kw_only=True)
class Kind(ABC):
    """A kind of figure. Its fields are the keys of its file in conf/draw/."""

    title: str
    published: Any = None  # a table of samgap/reference/published, or a list of some
    published_data: str | None = None  # the training data of the published runs

    RULES: ClassVar[Mapping[str, Rule]] = {}  # for keys
    files: ClassVar[tuple[str, ...]] = ()  # files of a run that it reads besides the record: metrics.csv, probes
    main: ClassVar[str | None] = None  # the name of the chart that a W&B dashboard shows

    def __post_init__(self) -> None:
        check(self.settings, self.RULES, "draw.")

    @property
    def settings(self) -> dict[str, Any]:
        """The keys and values of this kind."""
        return asdict(self)

    def evaluate(self, root: Path, name: str, scale: str, protocol: str) -> Study:
        """Read the runs of a sweep and evaluate them.

        Args:
            root: the results folder.
            name, scale: name and scale of the sweep.
            protocol: chooses the rho that is drawn: paper, holdout, loso or quadratic. Only figures of gaps use it.

        Raises:
            SettingError: there are no such runs, or they lack data that this kind needs.
        """
        table = collect(sweeps.read(root, name, scale), root, self.settings.get("registered"))
        return self.study(table, root, protocol)

    @abstractmethod
    def study(self, table: Table, root: Path, protocol: str) -> Study:
        """Evaluate runs; see `evaluate`."""

    def judge_again(self, report: Mapping[str, Any], frame: pd.DataFrame) -> Sequence[Judgment]:
        """Return the verdicts of a result that was kept without its runs, by the current rules.

        Args:
            report, frame: the result's json and csv.

        Raises:
            SettingError: the kept numbers are insufficient.
        """
        raise SettingError(
            f"{report['name']}/{report['scale']} was kept without its runs, and its numbers are too few for a verdict: "
            "the one that it has is by the rules of its day."
        )

    @abstractmethod
    def charts(self, frame: pd.DataFrame, facts: Mapping[str, Any]) -> Sequence[Chart | Map]:
        """Return the charts for figure, page and W&B, of a new study or a kept result.

        Args:
            frame: the frame of the study, or the csv of the result.
            facts: the statistics of the study, or the json of the result.
        """

    def draw(self, frame: pd.DataFrame, report: Mapping[str, Any], *, titled: bool = True) -> "Figure":
        """Draw a new study or a kept result.

        Args:
            frame: see `charts`.
            report: json of the study or result.
            titled: whether to draw title and footnote.
        """
        from samgap.figures import picture

        charts: Any = self.charts(frame, report)
        head, foot = (f"{self.title}\n{heading.answer(report)}", heading.footnote(report)) if titled else ("", "")
        return picture.draw(charts, head, foot)


def from_settings(settings: Mapping[str, Any]) -> Kind:
    """Return the kind that `settings`, the group `draw` of a config or of a kept result, describes.

    Raises:
        SettingError: the settings name no kind of figure.
    """
    target = settings.get("_target_")
    known = dict(settings)
    if "plotted" in known:
        older = str(target).removeprefix("samgap.figures."), str(known["verdict"]).removeprefix("samgap.results.")
        target = f"samgap.figures.{BEFORE[older]}" if older in BEFORE else None
    kind = locate(target) if target is not None else None
    if not (isinstance(kind, type) and issubclass(kind, Kind)):
        raise SettingError("draw must be a file of conf/draw/, such as draw=gap, and it names no kind of figure.")
    return kind(**{key: known[key] for key in (field.name for field in fields(kind)) if key in known})
