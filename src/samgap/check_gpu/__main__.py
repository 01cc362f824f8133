"""`python -m samgap.check_gpu`: does samgap work on this GPU, and how fast? Under 5 minutes, one JSON, one table."""

import contextlib
import gc
import json
import math
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

# Libraries read these when they are loaded: deterministic matrix products; JAX must not allocate all memory of the GPU.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import torch

from samgap import cli, console, files, naming, provenance
from samgap.check_gpu import fast, graphed, jax_peer, right, together
from samgap.check_gpu.bed import Bed, LeftOut
from samgap.check_gpu.rows import Row
from samgap.errors import line
from samgap.reference.card import FILE
from samgap.training import devices

SECONDS = 280.0  # time for all parts together
Part = Callable[[Bed], Iterator[Row]]
# Part -> (planned seconds, function). Time that a part does not use is available to the next ones.
PARTS: dict[str, tuple[float, Part]] = {
    "numbers": (15, right.numbers),
    "conformance": (5, right.conformance),
    "resume": (5, right.resume),
    "curvature": (5, right.curvature),
    "graph_numbers": (30, graphed.graph_numbers),
    "nccl": (20, right.nccl),
    "figure8": (60, right.figure8),
    "ceilings": (8, fast.ceilings),
    "mlp": (12, fast.mlp),
    "resnet18": (30, fast.resnet18),
    "resnet50": (10, fast.resnet50),
    "graphs": (45, graphed.graphs),
    "kernels": (15, fast.kernels),
    "jax": (35, jax_peer.jax),
    "packing": (30, together.packing),
    "mps": (35, together.mps),
    "graphs_resnet18": (40, graphed.graphs_resnet18),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0 if all checks hold, 1 if a check or a part failed or there is no GPU."""
    parser = console.parser(
        "samgap.check_gpu", __doc__, "", "numbers resnet18 --out /tmp/card", "--rehearse --seconds 60"
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rehearse", action="store_true", help="the same at tiny sizes on the CPU: no measurement")
    parser.add_argument("--out", default="multirun/check_gpu", help=f"folder of {FILE} (default: multirun/check_gpu)")
    parser.add_argument("--commit", help="of these sources, where there is no git")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of all parts together (default: {SECONDS:g})")
    options = parser.parse_intermixed_args(arguments)
    console.refuse_unknown(parser, options.parts, PARTS)
    if not 0 < options.seconds < math.inf:
        parser.error(f"--seconds must be a number above 0, got {options.seconds:g}")
    if options.commit:
        os.environ[provenance.COMMIT] = options.commit
    if not options.rehearse and not torch.cuda.is_available():
        print(f"samgap: torch {torch.__version__} finds no CUDA device here: check-gpu needs one, and --rehearse runs "
              "the same at tiny sizes on the CPU.", file=sys.stderr)  # fmt: skip
        return 1
    naming.register()
    device = torch.device("cpu" if options.rehearse else "cuda")
    path = Path(options.out) / ("rehearsal.json" if options.rehearse else FILE)
    with cli.sentences():
        return _carry_out(device, path, options.parts, options.seconds)


def _carry_out(device: torch.device, path: Path, names: list[str], total: float) -> int:
    end, result = time.monotonic() + total, head(device)
    if names:  # keep the results of the other parts, if they are from this GPU and this commit
        result["parts"] = _kept(path, result)
    print(f"{result['card']}, {', '.join(f'{key} {value}' for key, value in result['device'].items())}", flush=True)
    files.replace_text(path, json.dumps(result, indent=1) + "\n")  # fails at once if the folder cannot be written
    with tempfile.TemporaryDirectory() as folder:
        bed = Bed(device, Path(folder))
        for name in names or PARTS:
            seconds, part = PARTS[name]
            print(f"\n{name}", flush=True)
            result["parts"][name] = _part(bed, part, seconds * total / SECONDS, end - time.monotonic())
            files.replace_text(path, json.dumps(result, indent=1) + "\n")
    rows = [row for part in result["parts"].values() for row in part["rows"]]
    checks = [row["holds"] for row in rows if "holds" in row]
    failed = [name for name, part in result["parts"].items() if part["status"] == "failed"]
    summary = f"{sum(checks)} of {len(checks)} checks hold; {len(rows) - len(checks)} speeds; "
    summary += f"failed: {', '.join(failed) or 'no part'}"
    print(f"\n{summary}{'; a rehearsal, no measurement' if result['rehearsal'] else ''}")
    print(f"Look at rows that are WRONG, at parts that failed, and at goals that are missed.\n{path}")
    return int(bool(failed) or not all(checks))


def head(device: torch.device) -> dict[str, Any]:
    """Return the content of the result file before any part has run."""
    facts = {"torch": torch.__version__, "python": provenance.versions()["python"]}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= devices.versions(device) | {
            "memory": f"{properties.total_memory / 2**30:.0f} GiB",
            "multiprocessors": str(properties.multi_processor_count),
        }
    return {
        "rehearsal": device.type == "cpu",
        "card": devices.name(device) if device.type == "cuda" else "a rehearsal on the CPU",
        "device": facts,
        **provenance.sources(), "created": provenance.now(), "host": provenance.host(),
        "versions": provenance.versions(),
        "parts": {},
    }  # fmt: skip


def _kept(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        alike = all(earlier[key] == result[key] for key in ("card", "commit", "rehearsal"))
        return dict(earlier["parts"]) if alike else {}
    except (OSError, ValueError, KeyError):
        return {}


def _part(bed: Bed, part: Part, planned: float, left: float) -> dict[str, Any]:
    """Run a part and print its rows; return them with its status. An error ends only this part."""
    started = time.monotonic()
    bed.until = started + min(planned, left)
    rows: list[Row] = []
    status, message = "done", ""
    try:
        if left <= 2 / 3 * planned:  # some parts cannot be cut short
            raise LeftOut(f"it needs {planned:.0f} seconds, and {max(0.0, left):.0f} were left")
        for row in part(bed):
            print(row.text(), flush=True)
            rows.append(row)
        bed.wait()  # errors of a GPU are reported at the next synchronization
    except LeftOut as reason:
        status, message = "left out", f"{reason}."
    except Exception as error:
        traceback.clear_frames(error.__traceback__)  # frames keep tensors on the GPU alive
        status, message = "failed", cli.explain(error) or f"{type(error).__name__}: {line(error)[:300]}"
    if message:
        print(f"{status:>9}  {message}", flush=True)
    if bed.device.type == "cuda":
        gc.collect()  # frees runs that an exception ended
        with contextlib.suppress(RuntimeError):  # the GPU is unusable; the next part reports it
            torch.cuda.empty_cache()
    return {
        "status": status, "said": message, "seconds": round(time.monotonic() - started, 1),
        "rows": [asdict(row) for row in rows],
    }  # fmt: skip


if __name__ == "__main__":
    console.script(main)
