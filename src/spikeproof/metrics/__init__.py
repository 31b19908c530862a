"""Pure functions that turn tensors or rows into numbers, one subject a file."""
