"""The HTML page: one file with style, script and data, which opens from disk and loads nothing else."""

import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined

from samgap import provenance
from samgap.figures import heading
from samgap.figures.chart import Chart, Map, point_labels
from samgap.report import vega
from samgap.report.collected import Collected, StudyEntry

SIGNS = {"replicated": "✓", "differs": "✗", "too few": "?",
         "reproduced": "✓", "not reproduced": "✗", "inconclusive": "?", "holds": "✓", "fails": "✗",
         "fails as stated": "✗", "void": "–", "unsettled": "?", "n/a": "–"}  # fmt: skip
MEANINGS = {
    "reproduced": "The claim holds in this study, and chance gives as much in less than one study in twenty.",
    "not reproduced": "This study excludes what the claim says, such as the published slope.",
    "inconclusive": "This study cannot tell the claim from chance; its text says what it could have found.",
    "replicated": "The published numbers lie where our runs on the same data and settings expect them.",
    "differs": "Too many published numbers lie outside of where our runs on the same data and settings expect them.",
    "too few": "Too few numbers to tell agreement from chance.",
    "void": "The theorem's conditions do not hold here, so the study says nothing about it.",
}
LISTED = 80  # largest number of points that are listed as text; page.js has the same limit for keyboard access
ENDINGS = ("pdf", "png", "csv", "json")


def render(results: Collected, folder: Path) -> str:
    """Return the page's HTML, and copy the files of results that came with samgap beside the page.

    Args:
        results: contents of the page.
        folder: folder of the page.
    """
    environment = Environment(
        loader=PackageLoader("samgap.report", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    commit, dirty = provenance.commit()
    holm, questions = results.corrected()
    return environment.get_template("index.html").render(
        results=results,
        figures=results.figures(),
        holm=holm,
        questions=questions,
        made=provenance.now(),
        commit=commit[:7] + (" with changes" if dirty else ""),
        links=lambda study: _links(study, folder),
        spec=vega.spec,
        numbers=_numbers,
        sign=lambda answer: SIGNS[answer],
        meanings=MEANINGS,
        number=heading.number,
        origin=lambda study: "mine" if study.own else "theirs",
        flat=_flat,
        script=_script(),
    )


@cache
def _script() -> str:
    # Escaped, since a closing tag inside the script would end it.
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_convert.get_vegalite_versions()[-1])
    return bundle.replace("</script", "<\\/script")


def _links(study: StudyEntry, folder: Path) -> dict[str, str]:
    """Return the study's files: ending -> address relative to the page."""
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
    """Return (line label, text) for each point, so that a screen reader can read the chart.

    The list is empty for charts with more than `LISTED` points, whose numbers are in the csv.
    """
    if isinstance(chart, Map):
        return []
    marked = [line for line in chart.lines if line.look.marker]
    labels = [(line.label, text) for line in marked for text in point_labels(chart, line) if text]
    return labels if len(labels) <= LISTED else []


def _flat(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values as texts; elements of lists are joined by commas."""
    return {key: ", ".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in values.items()}
