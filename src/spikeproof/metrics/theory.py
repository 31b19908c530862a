"""What first-order theory says of a network, beside what was measured: how much an attack gains over noise, how far
the loss rises, and how dense a weight's gradient can be. Derivations and proofs: docs/theory.md.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from spikeproof.lines import Lines
from spikeproof.metrics.summaries import Ratio, Rise, TheorySummary, WeightDensity
from spikeproof.rows import Row, SupportRow, TheoryRow, of_kind

__all__ = ["ratio_bound", "ratio_measured", "ratio_predicted", "rise_predicted", "summarise"]


def ratio_measured(row: TheoryRow) -> float | None:
    """rho_adv / rho_rand of one image; None where no noise changed the probability."""
    return row["rho_adv"] / row["rho_rand"] if row["rho_rand"] else None


def ratio_predicted(row: TheoryRow) -> float | None:
    """3 |g|_1^2 / |g|_2^2, g the gradient of the true class's probability; None where g is zero.

    A linear function changes by eps |g|_1 at most within the ball, and by eps^2/3 |g|_2^2 in mean square over it.
    """
    return 3 * row["l1"] ** 2 / row["l2"] ** 2 if row["l2"] else None


def ratio_bound(row: TheoryRow) -> float | None:
    """3 |g|_0, at least the ratio that is predicted (Cauchy and Schwarz); None where g is zero."""
    return 3.0 * row["l0"] if row["l2"] else None


def rise_predicted(row: TheoryRow) -> float:
    """eps |g|_1, g the gradient of the cross-entropy: how far a linear loss rises within the ball."""
    return row["eps"] * row["ce_l1"]


def summarise(rows: Iterable[Row]) -> TheorySummary | None:
    """Medians over images (means for the weights) of the rows of kind 'theory' and 'support'; None if none."""
    rows = rows if isinstance(rows, Lines) else Lines(rows)
    some, layered = of_kind(rows, TheoryRow), of_kind(rows, SupportRow)
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


def _ratio(rows: Sequence[TheoryRow]) -> Ratio:
    measured, predicted = [ratio_measured(row) for row in rows], [ratio_predicted(row) for row in rows]
    quotients = [a / b for a, b in zip(measured, predicted, strict=True) if a is not None and b is not None]
    return {
        "measured": _median(measured),
        "predicted": _median(predicted),
        "bound": _median([ratio_bound(row) for row in rows]),
        "quotient": _median(quotients),
        "undefined": len(rows) - len(quotients),
    }


def _rise(rows: Sequence[TheoryRow]) -> Rise:
    pairs = [(row["rise"], rise_predicted(row)) for row in rows]
    return {
        "predicted": _median([predicted for _, predicted in pairs]),
        "measured": _median([rise for rise, _ in pairs]),
        "quotient": _median([rise / predicted for rise, predicted in pairs if predicted]),
    }


def _median(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return statistics.median(defined) if defined else None


def _weights(rows: Sequence[SupportRow], name: str) -> WeightDensity:
    layers = [row["layers"][name] for row in rows]
    density = statistics.fmean(layer["density"] for layer in layers)
    support = statistics.fmean(layer["support"] for layer in layers)
    return {
        "density": density,
        "support": support,
        "product": statistics.fmean(layer["product"] for layer in layers),
        "count": statistics.fmean(layer["count"] for layer in layers),
        "delta": statistics.fmean(layer["delta"] for layer in layers),
        "quotient": density / support if support else None,
    }
