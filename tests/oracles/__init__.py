"""Slow, plain twins of the package's mathematics. They import nothing from it, and no torch."""
