"""What has been worked out from plain data, kept: the cells of a study share most of what they say.

So a grid costs what its different pieces cost, not its cells.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from spikeproof.trust import trusting

__all__ = ["once"]

P = ParamSpec("P")
T = TypeVar("T")

_KEPT = 4096


class _Said:
    """Plain data as the key of a cache: equal where its text is. 1, 1.0 and True say different things."""

    def __init__(self, said: Any) -> None:
        self.said, self.text = said, repr(said)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Said) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def once(function: Callable[P, T]) -> Callable[P, T]:
    """The function worked out once for each different text of its arguments. An error is not kept.

    What a user's configuration was allowed, stored data are asked for again. Only for answers that nobody changes.
    """

    whatever: Callable[..., T] = function

    @functools.lru_cache(maxsize=_KEPT)
    def known(trusting: bool, *given: _Said) -> T:
        return whatever(*(one.said for one in given))

    @functools.wraps(function)
    def asked(*given: P.args, **named: P.kwargs) -> T:
        assert not named, "arguments by place"
        return known(trusting(), *map(_Said, given))

    return asked
