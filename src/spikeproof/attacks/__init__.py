"""Attacks, one file each: they propose an adversarial image; `spikeproof.evaluate` judges it."""
