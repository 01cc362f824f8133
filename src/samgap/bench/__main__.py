"""`python -m samgap.bench`: what a step and a sweep cost, against other code and against our goals."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# One thread for all; XLA reads this when jax is imported.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from samgap import cli, files, naming, provenance
from samgap.bench.rows import Row

PARTS = ("steps", "sweeps")


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser("python -m samgap.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--smoke", action="store_true", help="run everything once, small: the numbers mean nothing")
    parser.add_argument("--root", default="multirun", help="results go to ROOT/bench (default: multirun)")
    given = parser.parse_args(arguments)
    if wrong := [part for part in given.parts if part not in PARTS]:
        parser.error(f"a part is one of {', '.join(PARTS)}, got {wrong[0]}")
    naming.register()
    folder = Path(given.root) / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with cli.sentences():
        for row in _rows(given.parts or PARTS, given.smoke):
            print(text(row), flush=True)
            rows.append(row)
    result = {"commit": provenance.commit(), "host": provenance.host(), "created": provenance.now(),
              "versions": provenance.versions(), "smoke": given.smoke,
              "rows": [{**dataclasses.asdict(row), "holds": row.holds} for row in rows]}  # fmt: skip
    files.replace_text(folder / "bench.json", json.dumps(result, indent=1) + "\n")
    missed = [row for row in rows if row.holds is False]
    print(f"\n{len(missed)} of {sum(row.goal is not None for row in rows)} goals missed; {folder / 'bench.json'}")
    for row in missed:
        if row.profile:
            print(f"\n{row.what}, a profile of the whole run:\n{row.profile}")
    return 0


def text(row: Row) -> str:
    """One line of the table."""
    verdict = {True: "holds", False: "missed", None: ""}[row.holds]
    goal = f"goal {row.goal:g}" if row.goal is not None else ""
    numbers = f"{row.ours:.4g} {row.unit} to {row.peer:.4g} {row.unit}"
    against = f"of {row.against}" if row.against != "bound" else "of its bound"
    return f"{row.ratio:6.3f}  {goal:<10} {verdict:<7} {row.what}, {against} ({numbers}, n = {row.n})"


def _rows(parts: Sequence[str], smoke: bool) -> Iterator[Row]:
    if "steps" in parts:
        from samgap.bench import steps

        yield from steps.rows(_compose, steps.SMOKE if smoke else steps.CASES)
    if "sweeps" in parts:
        from samgap.bench import sweeps

        yield from sweeps.rows(_compose, smoke)


def _compose(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        values: dict[str, Any] = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)  # type: ignore[assignment]
    return values


if __name__ == "__main__":
    sys.exit(main())
