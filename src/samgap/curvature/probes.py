"""The curvature probes: from a trained net to the values in probes/<name>.json.

Losses are means over examples. The loss `squared` is a sum over outputs and `mean_squared` a mean over them, so the
curvature of the former is larger by their number.
"""

from typing import Any

import numpy as np

from samgap.curvature import eigen, moments, trace
from samgap.curvature.eigen import Eigen
from samgap.curvature.examples import Subject as Subject  # parts import it from here
from samgap.curvature.hessian import Hessian


def hessian(
    subject: Subject, *, examples: int | None, eigenvalues: int, samples: int, tol: float, maxiter: int, seed: int
) -> dict[str, Any]:
    """Compute the largest eigenvalues of the Hessian of the training loss, and its trace.

    Args:
        subject: the trained net.
        examples: number of training examples; None is all.
        eigenvalues: number of algebraically largest eigenvalues.
        samples: number of random vectors for the trace; 0 for no trace.
        tol, maxiter, seed: see `eigen.largest`.
    """
    part = subject.first(examples)
    operator = Hessian(subject.net, subject.loss, part, subject.masks)
    result = {"n": len(part)} | _plain(eigen.largest(operator, eigenvalues, tol=tol, seed=seed, maxiter=maxiter))
    if samples:
        estimated = trace.estimate(operator, samples, seed=seed)
        result |= {"trace": estimated.value, "trace_se": estimated.error}
    return result | {"gradients": operator.gradients}


def nonuniformity(
    subject: Subject, *, examples: int | None, orders: list[int], tol: float, maxiter: int, seed: int
) -> dict[str, Any]:
    """Compute s_2, s_3, s_4 of the Hessians of single examples.

    Args:
        subject: the trained net.
        examples: n, the number of training examples; None is all. s_k depends on n, so compare at equal n.
        orders: some of 2, 3, 4.
        tol, maxiter, seed: see `eigen.largest`.
    """
    part = subject.first(examples)
    result: dict[str, Any] = {"n": len(part), "s": {}}
    for order in orders:
        hessian = Hessian(subject.net, subject.loss, part, subject.masks)  # counts its own gradients
        moment = moments.moment(hessian, order, tol=tol, seed=seed, maxiter=maxiter)
        result["s"][str(order)] = {"value": _number(moment.s), "gradients": moment.gradients} | _plain(moment.eigen)
    return result


def _plain(eigen: Eigen) -> dict[str, Any]:
    return {
        "eigenvalues": [_number(value) for value in eigen.values],
        "residuals": [_number(value) for value in eigen.residuals],
        "products": eigen.products,
        "converged": eigen.converged,
    }


def _number(value: float) -> float | None:
    # JSON has no NaN, so a missing value is null.
    return float(value) if np.isfinite(value) else None
