"""The probes of curvature: from a finished net to the plain values of probes/<name>.json.

Losses are means over examples; `squared` is summed over outputs, `mean_squared` the mean over them, and curvature
scales with it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from samgap.curvature import eigen, moments, trace
from samgap.curvature.eigen import Eigen
from samgap.curvature.examples import Examples, Loss
from samgap.curvature.hessian import Hessian
from samgap.errors import SettingError, said


@dataclass(frozen=True, eq=False)
class Subject:
    """A finished net and the training part that its loss is the mean over, in fixed order."""

    net: nn.Module
    loss: Loss
    examples: Examples
    masks: Mapping[str, Tensor]  # of a sparse net, or empty

    def first(self, count: int | None) -> Examples:
        """The first `count` examples; all for None.

        Raises:
            SettingError: there are not so many.
        """
        whole = len(self.examples)
        if count is None:
            return self.examples
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= whole:
            raise SettingError(
                f"A probe's examples must be a number from 1 to the {whole} trained on, got {said(count)}."
            )
        return Examples(self.examples.inputs[:count], self.examples.labels[:count])


def hessian(
    subject: Subject, *, examples: int | None, eigenvalues: int, samples: int, tol: float, maxiter: int, seed: int
) -> dict[str, Any]:
    """The largest eigenvalues of the Hessian of the training loss, and its trace.

    Args:
        subject: what is looked at.
        examples: how many of the training part; None is all.
        eigenvalues: how many, the largest algebraically.
        samples: of the trace, 0 for none.
        tol, maxiter, seed: see `eigen.largest`.
    """
    part = subject.first(examples)
    operator = Hessian(subject.net, subject.loss, part, subject.masks)
    found = {"n": len(part)} | _plain(eigen.largest(operator, eigenvalues, tol=tol, seed=seed, maxiter=maxiter))
    if samples:
        estimated = trace.estimate(operator, samples, seed=seed)
        found |= {"trace": estimated.value, "trace_se": estimated.error}
    return found | {"gradients": operator.gradients}


def nonuniformity(
    subject: Subject, *, examples: int | None, orders: list[int], method: str, tol: float, maxiter: int, seed: int
) -> dict[str, Any]:
    """s_2, s_3, s_4 of the Hessians of single examples.

    Args:
        subject: what is looked at.
        examples: n, how many of the training part; s_k changes with n, so compare at equal n.
        orders: some of 2, 3, 4.
        method: "hessian", the Hessians themselves. The key stays for the sake of what is measured already.
        tol, maxiter, seed: see `eigen.largest`.

    Raises:
        SettingError: another method.
    """
    if method != "hessian":
        raise SettingError(f"probe.moments.method must be hessian, the only one left, got {said(method)}.")
    part = subject.first(examples)
    found: dict[str, Any] = {"n": len(part), "method": method, "s": {}}
    for order in orders:
        one = moments.moment(
            subject.net, subject.loss, part, order, masks=subject.masks, tol=tol, seed=seed, maxiter=maxiter
        )
        found["s"][str(order)] = {"value": _number(one.s), "gradients": one.gradients} | _plain(one.eigen)
    return found


def _plain(found: Eigen) -> dict[str, Any]:
    return {
        "eigenvalues": [_number(value) for value in found.values],
        "residuals": [_number(value) for value in found.residuals],
        "products": found.products,
        "converged": found.converged,
    }


def _number(value: float) -> float | None:
    # JSON has no nan; what was not found is null.
    return float(value) if np.isfinite(value) and not math.isnan(value) else None
