"""Where an attacker acts, one file a surface: what a point there is, where it starts, and how the victim answers it."""
