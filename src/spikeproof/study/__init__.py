"""A configuration, and what runs it: one cell, a grid of them, several at a time."""
