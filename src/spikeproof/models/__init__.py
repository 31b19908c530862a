"""Network bodies, one file an architecture.

A body is built as `Body(in_channels=..., classes=..., neuron=<factory>, **options)` and has `classify(z, rule)`. It
holds no encoder, no step count and no gradient choice; state-dict names are SpikingJelly's, so weights move both ways.
"""
