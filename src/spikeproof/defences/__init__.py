"""The loss of one training step, one file a defence. A defence that attacks is given the attack; it imports none."""
