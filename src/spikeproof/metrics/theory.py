"""What first-order theory says of a network, beside what was measured: how much an attack gains over noise, how far
the loss rises, and how dense a weight's gradient can be. Derivations and proofs: docs/theory.md.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["ratio_bound", "ratio_measured", "ratio_predicted", "rise_predicted", "summarise"]

Row = Mapping[str, Any]


def ratio_measured(row: Row) -> float | None:
    """rho_adv / rho_rand of one image; None where no noise changed the probability."""
    return row["rho_adv"] / row["rho_rand"] if row["rho_rand"] else None


def ratio_predicted(row: Row) -> float | None:
    """3 |g|_1^2 / |g|_2^2, g the gradient of the true class's probability; None where g is zero.

    A linear function changes by eps |g|_1 at most within the ball, and by eps^2/3 |g|_2^2 in mean square over it.
    """
    return 3 * row["l1"] ** 2 / row["l2"] ** 2 if row["l2"] else None


def ratio_bound(row: Row) -> float | None:
    """3 |g|_0, at least the ratio that is predicted (Cauchy and Schwarz); None where g is zero."""
    return 3.0 * row["l0"] if row["l2"] else None


def rise_predicted(row: Row) -> float:
    """eps |g|_1, g the gradient of the cross-entropy: how far a linear loss rises within the ball."""
    return float(row["eps"] * row["ce_l1"])


def summarise(rows: Iterable[Row]) -> dict[str, Any] | None:
    """Rows of kind 'theory' and 'support' -> medians over images (means for the weights), as plain JSON; None if none.

    `ratio`: `measured`, `predicted`, `bound`, and `quotient`, the median of measured by predicted; `undefined`, the
    images that have no ratio of either kind. `rise`: `predicted`, `measured`, and their `quotient` (images whose
    predicted rise is 0 have none). `weights`: for each layer the means of `density`, of the bounds `support`, `product`
    and `count`, and of `delta`, as in `spikeproof.measures.theory.support_rows`; `quotient` is density by support of
    the means.
    """
    rows = list(rows)
    some = [row for row in rows if row["kind"] == "theory"]
    layered = [row for row in rows if row["kind"] == "support"]
    if not some and not layered:
        return None
    return {
        "images": len(some),
        "eps": some[0]["eps"] if some else None,
        "eps_text": some[0]["eps_text"] if some else None,
        "ratio": _ratio(some) if some else None,
        "rise": _rise(some) if some else None,
        "weights": {name: _weights(layered, name) for name in layered[0]["layers"]} if layered else None,
    }


def _ratio(rows: Sequence[Row]) -> dict[str, Any]:
    measured, predicted = [ratio_measured(row) for row in rows], [ratio_predicted(row) for row in rows]
    quotients = [a / b for a, b in zip(measured, predicted, strict=True) if a is not None and b is not None]
    return {
        "measured": _median(measured),
        "predicted": _median(predicted),
        "bound": _median([ratio_bound(row) for row in rows]),
        "quotient": _median(quotients),
        "undefined": len(rows) - len(quotients),
    }


def _rise(rows: Sequence[Row]) -> dict[str, Any]:
    pairs = [(row["rise"], rise_predicted(row)) for row in rows]
    return {
        "predicted": _median([predicted for _, predicted in pairs]),
        "measured": _median([rise for rise, _ in pairs]),
        "quotient": _median([rise / predicted for rise, predicted in pairs if predicted]),
    }


def _median(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return statistics.median(defined) if defined else None


def _weights(rows: Sequence[Row], name: str) -> dict[str, Any]:
    fields = ("density", "support", "product", "count", "delta")
    means = {field: statistics.fmean(row["layers"][name][field] for row in rows) for field in fields}
    return {**means, "quotient": means["density"] / means["support"] if means["support"] else None}
