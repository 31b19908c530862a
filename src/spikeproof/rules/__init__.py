"""The gradient of the spike, one file a rule. A rule is an argument of the forward pass, never part of a model."""

from spikeproof.rules._surrogate import Surrogate

__all__ = ["Surrogate"]
