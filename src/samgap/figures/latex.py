"""Writes a figure's numbers for LaTeX's input command: a macro for each number, and a table."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

NAMES = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
SPELLED = {f"{digit}": f" {name} " for digit, name in enumerate(NAMES)} | {
    ".": " Point ",
    "-": " Minus ",
    "*": " Star ",
}


def text(report: Mapping[str, Any], headline: Mapping[str, Any]) -> str:
    r"""Return the content of the file: a \newcommand for each number and verdict, then the table of cells.

    The table needs the package booktabs. A comment names the study and the commits of its runs.

    Args:
        report: the study as plain values, see `output.report`.
        headline: the main numbers by name and cell, see `output.Study`.
    """
    study = f"{report['name']}/{report['scale']}"
    commits = ", ".join(report["provenance"]["commits"])
    macros = {macro(study, key): "--" if pd.isna(value) else f"{value:.3g}" for key, value in headline.items()}
    macros |= {
        macro(study, "verdict", verdict["series"], verdict.get("claim") or ""): verdict["answer"]
        for verdict in report["verdicts"]
    }
    table = pd.DataFrame(report["table"]["rows"], columns=report["table"]["columns"]).style.hide(axis="index")
    table = table.format(escape="latex").format_index(axis="columns", escape="latex")
    lines = [
        f"% {study}, {report['data']}; runs of commit {commits}. Drawn by samgap; needs \\usepackage{{booktabs}}.",
        *(f"\\newcommand{{\\{name}}}{{{value}}}" for name, value in macros.items()),
        table.to_latex(hrules=True, column_format="r" * len(report["table"]["columns"])).replace("λ", "$\\lambda$"),
    ]
    return "\n".join(lines)


def macro(*parts: str) -> str:
    """Return a macro's name in letters: fig7/cpu and gap/model.width=4 give FigSevenCpuGapModelWidthFour."""
    spelled = re.sub(r"(?<=\d)\.(?=\d)|-(?=\d)|[0-9*]", lambda found: SPELLED[found[0]], " ".join(parts))
    return "".join(word[:1].upper() + word[1:] for word in re.findall("[A-Za-z]+", spelled))
