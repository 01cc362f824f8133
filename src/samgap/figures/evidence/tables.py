"""Makes, writes and reads the tables that combine all studies."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from samgap import provenance
from samgap.errors import SettingError
from samgap.figures.chart import Chart
from samgap.figures.evidence import charts, rules, sizes, slopes, specifications
from samgap.figures.evidence.results import Series, same_runs
from samgap.figures.table import format_value
from samgap.files import replace, replace_text

MADE = "evidence.json"
CURVE = "fig7"  # the figure for which specifications are computed


@dataclass(frozen=True, eq=False)
class Tables:
    """See `slopes.table`, `specifications.table`, `rules.table` and `sizes.table`."""

    slopes: pd.DataFrame
    specifications: pd.DataFrame
    rules: pd.DataFrame
    gaps: pd.DataFrame

    def text_tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables that are printed, since no chart shows them, by title, as texts."""
        means = self.slopes[self.slopes["study"] == slopes.MEAN]
        pooled = {
            "rule": means["rule"], "studies": _texts(means["sizes"], ".0f"), "slope": _texts(means["slope"], "+.2f"),
            "from": _texts(means["low"], "+.2f"), "to": _texts(means["high"], "+.2f"),
            "s.d. between studies": _texts(means["tau"], ".2f"), "p of no difference": _texts(means["q_p"], ".2g"),
        }  # fmt: skip
        power = self.rules
        rates = {
            "study": power["study"], "rule": power["rule"] + power["unbiased"].map({True: " (verdict)", False: ""}),
            "sizes": _texts(power["sizes"], ".0f"), "seeds": _texts(power["seeds"], ".0f"),
            "rise, no effect %": _texts(100 * power["rise"], ".1f"),
            "fall, no effect %": _texts(100 * power["fall"], ".1f"),
            "published slope": _texts(power["published"], ".2f"), "found in %": _texts(100 * power["power"], ".0f"),
            "80 % find": _texts(power["found"], ".2f"),
        }  # fmt: skip
        return {
            "Means of slopes, percentage points per decade of parameters, with 95 % intervals": pd.DataFrame(pooled),
            f"Of {rules.STUDIES:,} simulated studies like each: what the trend test says, by rule of choosing rho":
                pd.DataFrame(rates),
        }  # fmt: skip

    def sentences(self) -> list[str]:
        """Return a sentence for each study with the counts of its specifications."""
        return [
            f"{study}: {rows['says_yes'].sum()} of {len(rows)} ways of asking say that the gap grows "
            f"({', '.join(map(specifications.said, specifications.counts(rows)))})."
            for study, rows in self.specifications.groupby("study", sort=False)
        ]

    def charts(self) -> dict[str, list[Chart]]:
        """Return the charts of each picture, by file name without ending."""
        by_study = {
            f"specifications-{str(study).partition('/')[2].replace(', ', '-')}": charts.specifications(rows)
            for study, rows in self.specifications.groupby("study", sort=False)
        }
        return {"slopes": charts.slopes(self.slopes), **by_study, "gaps": charts.gaps(self.gaps)}


def _texts(numbers: pd.Series, spec: str) -> list[str]:
    return [format_value(number, spec) for number in numbers]


def make(all_series: list[Series]) -> Tables:
    """Make the tables of some series."""
    repeated = same_runs(all_series)
    curves = [specifications.table(series) for series in all_series if series.name == CURVE and series not in repeated]
    frames = slopes.table(all_series), pd.concat(curves), rules.table(all_series), sizes.table(all_series)
    return Tables(*(table.reset_index(drop=True).round(6) for table in frames))


def write(tables: Tables, folder: Path, studies: Sequence[str]) -> None:
    """Write a csv for each table, and a JSON file with date, commit and studies."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in vars(tables).items():
        replace(folder / f"{name}.csv", functools.partial(table.to_csv, index=False))
    made = {"made": provenance.now(), **provenance.sources(), "studies": list(dict.fromkeys(studies))}
    replace_text(folder / MADE, json.dumps(made, indent=1) + "\n")


def read(folder: Path) -> Tables:
    """Read the tables that `write` wrote.

    Raises:
        SettingError: a table is missing or damaged.
    """
    try:
        frames = {field.name: pd.read_csv(folder / f"{field.name}.csv") for field in fields(Tables)}
        frames["slopes"] = frames["slopes"].fillna({"left_out": ""})
        return Tables(**frames)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"{folder} is damaged ({reason}): move it away, or make it again.") from error
