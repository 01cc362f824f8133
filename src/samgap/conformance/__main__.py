"""`python -m samgap.conformance package.module:Class`: a row for each property; exit code 1 if one does not hold."""

import argparse
import dataclasses
import json
from typing import Any

import torch

from samgap import console, provenance
from samgap.conformance.adapters import ADAPTERS
from samgap.conformance.subject import ASCENTS, Subject, subject_for
from samgap.conformance.suite import Row, examine


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = console.parser(
        "samgap.conformance", __doc__, "samgap.optim.sam:SAM", "pytorch_optimizer:SAM",
        "package.module:MySAM --own '{\"alpha\": 0.1}' --json",
    )  # fmt: skip
    parser.add_argument("target", help="the class, as package.module:Class")
    parser.add_argument("--adapter", help=f"{', '.join(ADAPTERS)} or package.module:Class (default: detected)")
    parser.add_argument("--ascent", choices=ASCENTS, default="sam", help="what eps should be (default: rho g / |g|)")
    parser.add_argument("--own", type=_own, default="{}", help="further arguments of the class, as JSON")
    parser.add_argument("--json", action="store_true", help="the rows as JSON")
    options = parser.parse_args(arguments)
    try:
        subject = subject_for(options.target, options.ascent, options.own, options.adapter)
    except ValueError as error:
        parser.error(str(error))
    rows = examine(subject)
    print(_json(subject, rows) if options.json else _table(subject, rows))
    return int(any(row.verdict == "fails" for row in rows))


def _own(text: str) -> dict[str, Any]:
    expected = "expected an object of JSON, such as '{\"alpha\": 0.1}'"
    try:
        values = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{expected}, and {text!r} cannot be read: {error}.") from error
    if not isinstance(values, dict):
        raise argparse.ArgumentTypeError(f"{expected}, got {text}.")
    return values


def _table(subject: Subject, rows: list[Row]) -> str:
    lines = []
    for row in rows:
        lines.append(console.wrapped(f"{row.verdict:5}  ", row.property))
        lines.append(console.wrapped(" " * 9, f"expected {row.wanted}; found {row.came}"))
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("holds", "fails", "n/a")}
    total = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    look = "Look at the rows that fail: what was found is not what a SAM does." if counts["fails"] else "Nothing fails."
    head = f"{subject.target} ({subject.adapter}), torch {torch.__version__}"
    return "\n".join([head, "", *lines, "", total, look])


def _json(subject: Subject, rows: list[Row]) -> str:
    made = {"torch": torch.__version__, "made": provenance.now(), **provenance.sources()}
    values: dict[str, Any] = dataclasses.asdict(subject) | made
    return json.dumps(values | {"rows": [dataclasses.asdict(row) for row in rows]}, indent=1)


if __name__ == "__main__":
    console.script(main)
