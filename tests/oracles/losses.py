"""Attack losses of one image in pure Python: a list of logits in, one number out, larger = more adversarial."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["cross_entropy", "dlr", "dlr_targeted", "margin"]


def cross_entropy(z: Sequence[float], y: int) -> float:
    """-log softmax(z)_y, with the largest logit taken out of the sum."""
    top = max(z)
    return top + math.log(math.fsum(math.exp(value - top) for value in z)) - z[y]


def margin(z: Sequence[float], y: int) -> float:
    """The best wrong logit above the right one; positive means misclassified."""
    return max(value for j, value in enumerate(z) if j != y) - z[y]


def dlr(z: Sequence[float], y: int) -> float:
    """Difference of logits ratio (Croce and Hein 2020): margin / (largest - third); the margin where those tie."""
    ranked = sorted(z, reverse=True)
    spread = ranked[0] - ranked[2]
    return margin(z, y) / spread if spread > 0 else margin(z, y)


def dlr_targeted(z: Sequence[float], y: int, target: int) -> float:
    """(z_target - z_y) / (largest - mean of third and fourth); the plain difference where the denominator is 0."""
    ranked = sorted(z, reverse=True)
    spread = ranked[0] - (ranked[2] + ranked[3]) / 2
    return (z[target] - z[y]) / spread if spread > 0 else z[target] - z[y]
