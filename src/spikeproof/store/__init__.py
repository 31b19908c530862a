"""Cells on disk: their folders, their keys, packed small, their cards."""
