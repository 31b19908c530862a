"""spikeproof: how robust a spiking neural network really is, and how sparse its input gradients are."""

import logging

__version__ = "0.1.0"

logging.getLogger("spikeproof").addHandler(logging.NullHandler())
