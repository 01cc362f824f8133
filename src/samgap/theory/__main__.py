"""`python -m samgap.theory`: a row for each theoretical statement; exit code 1 if one differs from docs/theory.md."""

import dataclasses
import json
import os
import shlex
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import scipy

from samgap import console, files, provenance
from samgap.theory import suite
from samgap.theory.row import Row, Setup


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = console.parser("samgap.theory", __doc__, "", "--json", "--draws 300 --seed 1 --out /tmp/theory")
    parser.add_argument("--out", type=Path, default=Path("multirun/theory"), help="folder (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--draws", type=int, default=Setup.draws, help="random instances a row (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=Setup.seed, help="seed of the instances (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.draws < 100 or options.seed < 0:
        parser.error(f"--draws must be 100 or more and --seed 0 or more, got {options.draws} and {options.seed}")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.out).close()
    except OSError as error:
        parser.error(f"--out must be a folder that can be written, got {options.out} ({error.strerror})")
    setup = Setup(options.draws, options.seed)
    rows = suite.check(setup)
    text = _json(rows, setup, sys.argv[1:] if arguments is None else arguments)
    files.replace_text(options.out / "theory.json", text + "\n")
    _figures(options.out, setup)
    print(text if options.json else _table(rows))
    for sentence in suite.surprises(rows):
        print(sentence, file=sys.stderr)
    return int(bool(suite.surprises(rows)))


def _figures(folder: Path, setup: Setup) -> None:
    os.environ["MPLBACKEND"] = "agg"  # a notebook sets one that its child processes cannot import
    from matplotlib import pyplot as plt

    from samgap import style
    from samgap.theory import figure

    with style.style():
        picture = figure.draw(setup)
        for ending in ("png", "pdf"):
            files.replace(folder / f"theory.{ending}", picture.savefig)
        plt.close(picture)


def _table(rows: list[Row]) -> str:
    width = max(len(row.verdict) for row in rows)
    lines = []
    for row in rows:
        control = "" if row.control is None else f", control {row.control:+.2g}"
        lines.append(console.wrapped(f"{row.verdict:{width}}  ", f"{row.name}: {row.statement} [{row.source}]"))
        lines.append(console.wrapped(f"{'':{width}}  ", f"margin {row.margin:+.2g}{control}; {row.evidence}"))
    kinds = ("holds", "fails as stated", "void", "unsettled")
    total = ", ".join(f"{sum(row.verdict == kind for row in rows)} {kind}" for kind in kinds)
    look = "Look at the margin: below 0 a statement is violated. The control is false by design, and must be below 0."
    return "\n".join([*lines, "", total, *textwrap.wrap(look, console.COLUMNS)])


def _json(rows: list[Row], setup: Setup, arguments: list[str]) -> str:
    values: dict[str, Any] = {
        "rows": [dataclasses.asdict(row) | {"published": suite.PUBLISHED.get(row.name)} for row in rows],
        "provenance": {
            "made": provenance.now(),
            "command": shlex.join(["python", "-m", "samgap.theory", *arguments]),
            "seed": setup.seed,
            "draws": setup.draws,
            **provenance.sources(),
            "versions": provenance.versions() | {"scipy": scipy.__version__},
        },
    }
    return json.dumps(values, indent=1)


if __name__ == "__main__":
    console.script(main)
