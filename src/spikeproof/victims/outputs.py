"""What a network must answer with: logits, no probabilities."""

from __future__ import annotations

from torch import Tensor

from spikeproof.errors import SpikeproofError

__all__ = ["refuse_probabilities"]


def refuse_probabilities(logits: Tensor) -> None:
    """SpikeproofError where every row of the answers (B,K) sums to 1: a softmax saturates every loss and hides the
    margin. One row of spike rates may sum to 1 by chance, so of a single one nothing is said."""
    if len(logits) > 1 and bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-4).all()):
        raise SpikeproofError(
            "logits", "probabilities: every row sums to 1", mend="take the softmax out of the network"
        )
