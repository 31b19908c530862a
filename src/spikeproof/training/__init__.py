"""Training, its checkpoints, and the attack that a defence trains on."""
