"""Forward physics of spiking layers: one file a neuron, no gradient choices (those are `spikeproof.rules`)."""

from spikeproof.neurons._stepwise import Stepwise

__all__ = ["Stepwise"]
