"""`python -m samgap.bench`: the cost of a step, a sweep and curvature, compared with other code and with our goals."""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# One thread for all libraries; XLA reads its variable when jax is imported.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from samgap import cli, console, files, naming, provenance
from samgap.bench.rows import Row

PARTS = ("mlp", "resnet18", "sweeps", "scheduling", "curvature")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = console.parser("samgap.bench", __doc__, "", "mlp curvature", "--smoke --root /tmp/bench")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--smoke", action="store_true", help="run everything once, small: the numbers mean nothing")
    parser.add_argument("--root", default="multirun", help="results go to ROOT/bench (default: multirun)")
    options = parser.parse_intermixed_args(arguments)
    console.refuse_unknown(parser, options.parts, PARTS)
    naming.register()
    folder = Path(options.root) / "bench"
    with cli.sentences():
        folder.mkdir(parents=True, exist_ok=True)
    print("ours / theirs, goal, verdict, what was measured: below 1, ours takes less. Look at what is missed.\n")
    path = folder / ("smoke.json" if options.smoke else "bench.json")
    for part in options.parts or PARTS:
        with cli.sentences():
            others = files.read_json(path, "move it away") if path.exists() else {}  # keep the other parts
            for measured in _measured(part, options.smoke):
                files.replace_text(path, json.dumps(others | {part: measured}, indent=1) + "\n")
    print(f"\n{_processor()}\n{path}")
    return 0


def _measured(part: str, smoke: bool) -> Iterator[dict[str, Any]]:
    """Print each row of a part once it is measured, and yield all rows so far with their provenance."""
    rows: list[Row] = []
    for row in _rows(part, smoke):
        print(text(row), flush=True)
        rows.append(row)
        yield {
            **provenance.sources(), "created": provenance.now(),
            "versions": provenance.versions(), "processor": _processor(), "smoke": smoke,
            "rows": [{**dataclasses.asdict(row), "holds": row.holds} for row in rows],
        }  # fmt: skip
    for row in rows:
        if row.profile:
            print(f"\n{row.what}, {row.against}: profile of a whole run\n{row.profile}\n")


def _processor() -> str:
    import torch

    return f"{provenance.processor()}, {torch.backends.cpu.get_cpu_capability()}"


def text(row: Row) -> str:
    """Return the lines of a row in the table."""
    verdict = {True: "holds", False: "missed", None: ""}[row.holds]
    goal = f"goal {row.goal:g}" if row.goal is not None else ""
    numbers = f"{row.ours:.4g} {row.unit} to {row.peer:.4g} {row.unit}{', ' * bool(row.note)}{row.note}"
    against = f"of {row.against}" if row.against != "bound" else "of its bound"
    head = f"{row.ratio:6.3f}  {goal:<10} {verdict:<7} "
    return console.wrapped(head, f"{row.what}, {against} ({numbers}, n = {row.n})")


def _rows(part: str, smoke: bool) -> Iterator[Row]:
    if part in ("mlp", "resnet18"):
        from samgap.bench import steps

        cases = steps.SMOKE if smoke else steps.CASES
        return steps.rows(_compose, [case for case in cases if case.model == part])
    if part == "sweeps":
        from samgap.bench import sweeps

        return sweeps.rows(_compose, smoke)
    if part == "scheduling":
        from samgap.bench import scheduling

        return scheduling.rows(smoke)
    from samgap.bench import curvature

    return curvature.rows(_compose, smoke)


def _compose(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        values: dict[str, Any] = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)  # type: ignore[assignment]
    return values


if __name__ == "__main__":
    console.script(main)
