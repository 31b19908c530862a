"""Attacks, one file each: they propose an adversarial image; `spikeproof.judge` judges it."""
