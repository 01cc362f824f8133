"""The curvature probes: from a trained net to the plain values of probes/<name>.json.

Losses are means over examples. `squared` is a sum over outputs and `mean_squared` a mean; curvature scales likewise.
"""

from typing import Any

import numpy as np

from samgap.curvature import eigen, moments, trace
from samgap.curvature.eigen import Eigen
from samgap.curvature.examples import Subject as Subject  # parts import it from here
from samgap.curvature.hessian import Hessian
from samgap.errors import SettingError, said


def hessian(
    subject: Subject, *, examples: int | None, eigenvalues: int, samples: int, tol: float, maxiter: int, seed: int
) -> dict[str, Any]:
    """The largest eigenvalues of the Hessian of the training loss, and its trace.

    Args:
        subject: the trained net.
        examples: number of training examples; None is all.
        eigenvalues: number of eigenvalues, the algebraically largest.
        samples: of the trace; 0 for no trace.
        tol, maxiter, seed: see `eigen.largest`.
    """
    part = subject.first(examples)
    operator = Hessian(subject.net, subject.loss, part, subject.masks)
    found = {"n": len(part)} | _plain(eigen.largest(operator, eigenvalues, tol=tol, seed=seed, maxiter=maxiter))
    if samples:
        value, error = trace.estimate(operator, samples, seed=seed)
        found |= {"trace": value, "trace_se": error}
    return found | {"gradients": operator.gradients}


def nonuniformity(
    subject: Subject, *, examples: int | None, orders: list[int], method: str, tol: float, maxiter: int, seed: int
) -> dict[str, Any]:
    """s_2, s_3, s_4 of the Hessians of single examples.

    Args:
        subject: the trained net.
        examples: n, the number of training examples; None is all. s_k depends on n, so compare at equal n.
        orders: some of 2, 3, 4.
        method: "hessian". The key is kept because saved measurements have it.
        tol, maxiter, seed: see `eigen.largest`.

    Raises:
        SettingError: `method` is another.
    """
    if method != "hessian":
        raise SettingError(f"probe.moments.method must be hessian, the only one left, got {said(method)}.")
    part = subject.first(examples)
    found: dict[str, Any] = {"n": len(part), "method": method, "s": {}}
    for order in orders:
        hessian = Hessian(subject.net, subject.loss, part, subject.masks)  # counts its own gradients
        s, of, gradients = moments.moment(hessian, order, tol=tol, seed=seed, maxiter=maxiter)
        found["s"][str(order)] = {"value": _number(s), "gradients": gradients} | _plain(of)
    return found


def _plain(found: Eigen) -> dict[str, Any]:
    return {
        "eigenvalues": [_number(value) for value in found.values],
        "residuals": [_number(value) for value in found.residuals],
        "products": found.products,
        "converged": found.converged,
    }


def _number(value: float) -> float | None:
    # JSON has no NaN, so a missing value is null.
    return float(value) if np.isfinite(value) else None
