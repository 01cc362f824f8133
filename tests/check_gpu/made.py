"""A made-up result of check-gpu with rows of the real kind; no GPU was measured."""

from dataclasses import asdict
from typing import Any

from samgap.check_gpu.rows import Check, Speed


def step(model: str, width: float, rho: float, seconds: float, rate: float, precision: str = "32-true") -> Speed:
    case = {"model": model, "width": width, "rho": rho, "batch_size": 128}
    what = f"{'SAM' if rho else 'SGD'} step, {model} {width:g}"
    return Speed(what, precision, seconds, 5, 0.01, images=128 / seconds, rate=rate, share=0.5, case=case)


STEPS = (
    step("mlp", 0.1, 0.1, 0.002, 1e9),
    step("mlp", 10, 0.0, 0.003, 9e12),
    step("resnet18", 4, 0.1, 0.012, 1e10),
    step("resnet18", 128, 0.1, 0.2, 3e13),
    step("resnet50", 64, 0.0, 0.4, 4e13),
    step("resnet18", 128, 0.1, 0.05, 9e13, "tf32"),
)


def result(created: str = "2026-01-02T03:04:05+00:00", card: str = "Made-up Card", **more: Any) -> dict[str, Any]:
    """Return the result as check-gpu writes it."""
    checks = Check("20 steps", "the CPU's", "0 off", True), Check("masks <b>", "all 0", "3 of 9 are not", False)
    parts = {
        "right": {"status": "done", "said": "", "seconds": 1.0, "rows": [asdict(check) for check in checks]},
        "fast": {"status": "done", "said": "", "seconds": 1.0, "rows": [asdict(one) for one in STEPS]},
        "jax": {"status": "failed", "said": "JAX is ill.", "seconds": 1.0, "rows": []},
    }
    return {"rehearsal": False, "card": card, "created": created, "commit": "0123456789", "parts": parts,
            "device": {"memory": "1 GiB", "cuda": "13.0"}} | more  # fmt: skip
