"""Attacks, one file each: they propose an adversarial image; `spikeproof.evaluation.judge` judges it."""
