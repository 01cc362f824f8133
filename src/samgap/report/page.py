"""The page itself: one HTML file with style, script and data inside, which opens from disk and asks for nothing."""

import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined

from samgap import provenance
from samgap.figures.chart import Chart, Map, words
from samgap.report import vega
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
        spec=vega.spec,
        numbers=_numbers,
        sign=lambda answer: SIGNS[answer],
        flat=_flat,
        script=_script(),
    )


@cache
def _script() -> str:
    # A closing tag inside of the script would end it.
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_convert.get_vegalite_versions()[-1])
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


def _numbers(chart: Chart | Map) -> list[tuple[str, str]]:
    """(line, what is said of the point) of each point: the chart for those who do not see it.

    Of curves nothing is gained by hundreds of lines; their rates stand in the table, their points in the csv.
    """
    if isinstance(chart, Map):
        return []
    marked = [line for line in chart.lines if line.look.marker]
    told = [(line.label, text) for line in marked for text in words(chart, line) if text]
    return told if len(told) <= LISTED else []


def _flat(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as texts, lists joined."""
    return {key: ", ".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in values.items()}
