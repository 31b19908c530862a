"""Forward physics of spiking layers: one file a neuron, no gradient choices (those are `spikeproof.rules`)."""
