"""What is attacked: the network behind its encoder, one batch of it under attack, and its fast twin."""
