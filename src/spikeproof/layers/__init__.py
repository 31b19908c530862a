"""Fast forms of the layers that networks are built of."""
