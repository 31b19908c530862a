"""Why a build of the site fails."""

from __future__ import annotations

__all__ = ["Undocumented"]


class Undocumented(Exception):
    """A public object without a docstring; the argument is its dotted name."""

    def __str__(self) -> str:
        return f"{self.args[0]} is public and has no docstring"
