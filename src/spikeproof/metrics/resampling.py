"""Intervals over seeds and over configurations, and the draws that they stand on."""

from __future__ import annotations

from spikeproof.metrics._ranks import Floats
from spikeproof.metrics._resampling import (
    ENOUGH,
    NOTHING,
    SEEDS,
    Bounds,
    Draws,
    Estimate,
    draws,
    estimate,
    percentile,
    student,
)

__all__ = [
    "ENOUGH", "NOTHING", "SEEDS", "Bounds", "Draws", "Estimate", "Floats", "draws", "estimate", "percentile", "student",
]  # fmt: skip
