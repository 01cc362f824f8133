"""The page itself: one HTML file with style, script and data inside, which opens from disk and asks for nothing."""

import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import altair
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined

from samgap import provenance
from samgap.figures.plot import Plot
from samgap.report import charts
from samgap.report.collected import Collected, Shown

SIGNS = {"replicated": "✓", "differs": "✗", "too few": "?",
         "reproduced": "✓", "not reproduced": "✗", "inconclusive": "?", "holds": "✓", "fails": "✗",
         "fails as stated": "✗", "void": "–", "unsettled": "?", "n/a": "–"}  # fmt: skip
LISTED = 80  # points of a chart; page.js makes as many reachable by keyboard
ENDINGS = ("pdf", "png", "csv", "json")


def render(found: Collected, folder: Path) -> str:
    """The page; files that came with samgap are copied beside it so that its links hold.

    Args:
        found: what it shows.
        folder: of the page.
    """
    environment = Environment(
        loader=PackageLoader("samgap.report", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    commit, dirty = provenance.commit()
    holm, questions = found.corrected()
    return environment.get_template("index.html").render(
        found=found,
        figures=found.figures(),
        holm=holm,
        questions=questions,
        made=provenance.now(),
        commit=commit[:7] + (" with changes" if dirty else ""),
        links=lambda study: _links(study, folder),
        spec=charts.spec,
        numbers=_numbers,
        sign=lambda answer: SIGNS[answer],
        flat=_flat,
        script=_script(),
    )


@cache
def _script() -> str:
    # A closing tag inside of the script would end it.
    version = ".".join(altair.VEGALITE_VERSION.split(".")[:2])
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", version)
    return bundle.replace("</script", "<\\/script")


def _links(study: Shown, folder: Path) -> dict[str, str]:
    """Ending to address of the study's files, from the page."""
    links = {}
    for ending in ENDINGS:
        path = study.folder / f"{study.name}.{ending}"
        if not path.exists():
            continue
        if study.own:
            links[ending] = f"../{study.name}/{study.scale}/{path.name}"
        else:
            target = folder / "reference" / study.name / study.scale / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            links[ending] = str(target.relative_to(folder))
    return links


def _numbers(plot: Plot) -> list[tuple[str, str]]:
    """(series, what is said of the point) of each point: the chart for those who do not see it.

    Of curves nothing is gained by hundreds of lines; their rates stand in the table, their points in the csv.
    """
    if plot.kind == "map" or len(plot.points) > LISTED:
        return []
    return [*zip(plot.points["series"], charts.told(plot), strict=True)]


def _flat(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as texts, lists joined."""
    return {key: ", ".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in values.items()}
