"""What `wrap` and `check` are at, where they take more than a second."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

__all__ = ["Progress", "told"]

Progress = Callable[[str], None]
"""Called with a few words when the next part begins."""


@contextmanager
def told(what: str, parts: int) -> Iterator[Progress]:
    """A bar on standard error that appears after a second, on a terminal alone, and goes when all is done."""
    with tqdm(
        total=parts, desc=what, unit="part", delay=1.0, leave=False, disable=not sys.stderr.isatty(), file=sys.stderr
    ) as bar:
        begun = 0

        def progress(part: str) -> None:
            nonlocal begun
            bar.set_postfix_str(part, refresh=False)
            bar.update(int(begun > 0))
            begun += 1

        yield progress
