"""`python -m samgap.bench`: the cost of a step, a sweep and curvature, compared with other code and with our goals."""

import dataclasses
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

# One thread for all; XLA reads this when jax is imported.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

from samgap import cli, console, files, naming, provenance
from samgap.bench.rows import Row

PARTS = ("steps", "sweeps", "scheduling", "curvature")


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = console.parser("samgap.bench", __doc__, "", "steps curvature", "--smoke --root /tmp/bench")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--smoke", action="store_true", help="run everything once, small: the numbers mean nothing")
    parser.add_argument("--root", default="multirun", help="results go to ROOT/bench (default: multirun)")
    given = parser.parse_args(arguments)
    console.refuse_unknown(parser, given.parts, PARTS)
    naming.register()
    folder = Path(given.root) / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    print("ours / theirs, goal, verdict, what was measured: below 1, ours takes less. Look at what is missed.\n")
    path = folder / "bench.json"
    for part in given.parts or PARTS:
        with cli.sentences():
            measured = _measure(part, given.smoke)
        kept = json.loads(path.read_text()) if path.exists() else {}  # the other parts
        files.replace_text(path, json.dumps(kept | {part: measured}, indent=1) + "\n")
    print(f"\n{_processor()}\n{path}")
    return 0


def _measure(part: str, smoke: bool) -> dict[str, Any]:
    """Print the rows of a part as they are measured; return them with their provenance."""
    rows = []
    for row in importlib.import_module(f"samgap.bench.{part}").rows(smoke):
        print(text(row), flush=True)
        rows.append(row)
    for row in rows:
        if row.profile:
            print(f"\n{row.what}, {row.against}: profile of a whole run\n{row.profile}\n")
    return {
        **provenance.sources(), "created": provenance.now(),
        "versions": provenance.versions(), "processor": _processor(), "smoke": smoke,
        "rows": [{**dataclasses.asdict(row), "holds": row.holds} for row in rows],
    }  # fmt: skip


def _processor() -> str:
    import torch

    return f"{provenance.processor()}, {torch.backends.cpu.get_cpu_capability()}"


def text(row: Row) -> str:
    """One line of the table."""
    verdict = {True: "holds", False: "missed", None: ""}[row.holds]
    goal = f"goal {row.goal:g}" if row.goal is not None else ""
    numbers = f"{row.ours:.4g} {row.unit} to {row.peer:.4g} {row.unit}{', ' * bool(row.note)}{row.note}"
    against = f"of {row.against}" if row.against != "bound" else "of its bound"
    head = f"{row.ratio:6.3f}  {goal:<10} {verdict:<7} "
    return console.wrapped(head, f"{row.what}, {against} ({numbers}, n = {row.n})")


if __name__ == "__main__":
    sys.exit(main())
